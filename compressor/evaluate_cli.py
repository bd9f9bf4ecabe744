"""`infoprune evaluate`: accuracy of one model or two, in process or through an endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from compressor.bar import ProgressBar
from compressor.cli import errors_in_one_sentence
from compressor.evaluate.answers import AnswerLog, EvaluationError
from compressor.evaluate.datasets import Example, examples
from compressor.evaluate.endpoint import Retry
from compressor.evaluate.example import MAX_NEW_TOKENS, SUFFIX
from compressor.evaluate.generated.canvas import Split
from compressor.evaluate.metrics import Interval
from compressor.evaluate.session import Local, Served, ask, local_side, served_side
from compressor.evaluate.summary import Summary, summarise

Directories = Annotated[
    list[Path] | None, typer.Argument(help="One or two model directories, asked in process.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the report goes, as JSON.")]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        help="easy-vqa (default), drawn-text, drawn-scenes, vqav2:DIR, textvqa:DIR, gqa:DIR or "
        "FILE.jsonl; repeat it for several. See docs/datasets.md."
    ),
]
Samples = Annotated[
    int, typer.Option(min=0, help="Questions of each dataset; 0 asks the whole split.")
]
Url = Annotated[
    str | None, typer.Option(help="Ask an OpenAI-compatible endpoint: http://HOST:PORT.")
]
Names = Annotated[
    list[str] | None, typer.Option(help="A model's name there; twice to compare two.")
]
KeyVariable = Annotated[
    str | None, typer.Option(help="Environment variable that holds the endpoint's key.")
]
Attempts = Annotated[
    int, typer.Option(min=1, help="How often a request is tried before it gives up.")
]
WorkDirectory = Annotated[
    Path | None, typer.Option(help="Where answers are kept; by default beside --out.")
]


def evaluate(  # noqa: PLR0913 - a parameter for every option
    directories: Directories = None,
    *,
    out: Out,
    dataset: Datasets = None,
    samples: Samples = 500,
    split: Annotated[Split, typer.Option(help="Which questions.")] = "test",
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of questions.")] = 0,
    endpoint: Url = None,
    model: Names = None,
    api_key_env: KeyVariable = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    attempts: Attempts = Retry.attempts,
    work: WorkDirectory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure accuracy, with 95 % intervals; of two models the paired difference as well.

    Every answer is kept as it comes: the same command after a crash asks only what is missing.
    """
    with errors_in_one_sentence():
        side = (
            local_side(directories or [], model or [], api_key_env)
            if endpoint is None
            else served_side(
                endpoint, directories or [], model or [], api_key_env, concurrency, attempts
            )
        )
        if out.is_dir():
            raise EvaluationError(f"{str(out)!r} is a directory; name a file for the report.")
        asked = {
            name: examples(name, split, samples=samples or None, seed=seed)
            for name in dict.fromkeys(dataset or ["easy-vqa"])
        }
        with AnswerLog(work or out.with_name(f"{out.stem}.answers")) as log:
            said = ask_with_progress(side, asked, log)
        summary = summarise(asked, said, seed=seed)
        report = build_report(side, asked, summary, {"split": split, "seed": seed})
        write_report(out, report)
        if as_json:
            typer.echo(json.dumps(report, indent=2))
        else:
            Console().print(build_table(summary))


def ask_with_progress(
    side: Served | Local, asked: Mapping[str, Sequence[Example]], log: AnswerLog
) -> dict[str, dict[str, list[str]]]:
    """`ask`, with a bar on standard error that knows the time left."""
    bar = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("questions", total=None)
        return ask(
            side,
            asked,
            log,
            started=lambda total, known: bar.update(task, total=total, completed=known),
            advance=lambda question: bar.update(task, advance=1, description=question.model),
        )


def build_report(
    side: Served | Local,
    asked: Mapping[str, Sequence[Example]],
    summary: Summary,
    drawn: Mapping[str, Any],
) -> dict[str, Any]:
    """What was measured, and how."""
    return {
        **drawn,
        "asked": side.place,
        "prompt": {
            "suffix": SUFFIX,
            "ocr_tokens": False,
            "max_new_tokens": MAX_NEW_TOKENS,
            "sampling": "greedy",
        },
        "metrics": {name: sorted({e.metric for e in chosen}) for name, chosen in asked.items()},
        "intervals": "95 %, bootstrap by picture, within each dataset",
        **summary.to_json(),
    }


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Replace the report in one rename.

    Raises:
        EvaluationError: it cannot be written.
    """
    temporary = out.with_name(out.name + ".tmp")
    try:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
        temporary.replace(out)
    except OSError as error:
        raise EvaluationError(
            f"The report {str(out)!r} cannot be written ({error.strerror}); choose another --out."
        ) from error


def build_table(summary: Summary) -> Table:
    """A row for each dataset and one for their mean."""
    table = Table("accuracy", "questions", *summary.accuracy, title="95 % intervals")
    first = next(iter(summary.accuracy.values()))
    if summary.mean_difference:
        table.add_column("difference")
    for name, interval in first.items():
        cells = [_cell(found[name]) for found in summary.accuracy.values()]
        table.add_row(name, str(interval.n), *cells, *_difference(summary.difference.get(name)))
    if len(first) > 1:
        cells = [_cell(mean) for mean in summary.mean.values()]
        total = str(sum(interval.n for interval in first.values()))
        table.add_row("mean", total, *cells, *_difference(summary.mean_difference))
    return table


def _cell(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _difference(interval: Interval | None) -> list[str]:
    if interval is None:
        return []
    return [f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"]
