"use strict";
// The documents of all versions; Swagger UI offers them in its top bar.
fetch("/docs/versions.json").then((answer) => answer.json()).then((versions) => {
  window.ui = SwaggerUIBundle({
    urls: versions,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    displayRequestDuration: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "StandaloneLayout",
  });
});
