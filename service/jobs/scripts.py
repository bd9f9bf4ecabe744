"""What Redis does to a job's record in one step, in Lua."""

# KEYS[1] the job, KEYS[2] the models; ARGV[1] the token ('' = none needed), ARGV[2] JSON list of
# the statuses from which the change is allowed, ARGV[3] the attempt ('' = whichever), ARGV[4] and
# [5] name and entry of a model to register with it ('' = none), ARGV[6..] field, value, ...
UPDATE = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 0 end
local allowed = false
for _, s in ipairs(cjson.decode(ARGV[2])) do if s == status then allowed = true end end
if not allowed then return 0 end
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' and (redis.call('HGET', KEYS[1], 'attempt') or '1') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], ARGV[4], ARGV[5]) end
return 1
"""
# KEYS[1] the job, KEYS[2] its sign of life; ARGV[1] the token, ARGV[2] milliseconds.
BEAT = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'status') ~= 'running' then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""
