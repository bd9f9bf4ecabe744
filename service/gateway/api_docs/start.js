// Swagger UI over this gateway's own document. A key that is entered is forgotten with the page.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // the default asks a server elsewhere about the document
});
