"use strict";
const place = document.getElementById("redoc");
// No worker for the search: it would need scripts from blob: addresses.
Redoc.init(place.dataset.document, { disableSearch: true, hideDownloadButton: false, nativeScrollbars: true }, place);
