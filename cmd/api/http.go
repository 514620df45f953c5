package main

import (
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/oip"
	"sluice/internal/platform/web"
)

// newHTTP builds the public HTTP server.
func newHTTP(a *app) (*web.Server, error) {
	cfg := a.webConfig("http", a.cfg.HTTP.Addr)
	cfg.ErrorHandler = oip.ErrorHandler
	memory, err := newMemory(a, "http", a.cfg.HTTP.MaxHeld)
	if err != nil {
		return nil, err
	}
	server, webErr := web.New(cfg, func(e *echo.Echo) {
		err = oip.Register(e, a.inference.models, oip.Config{
			ServerName: "sluice", ServerVersion: a.build.Version,
			MaxBody: cfg.MaxBody, MaxBodyKey: cfg.MaxBodyKey, BodyTimeout: cfg.ReadTimeout, Memory: memory,
		})
		e.GET("/", landing)
		if a.cfg.BenchNoop {
			e.POST("/bench/noop", noop)
		}
	})
	if err != nil {
		return nil, err
	}
	return server, webErr
}

// landing tells a visitor what this is.
func landing(c echo.Context) error {
	return c.JSONBlob(http.StatusOK, []byte(`{"name":"sluice","links":{"server":"/v2","live":"/v2/health/live","ready":"/v2/health/ready"}}`+"\n"))
}

// noop is the floor that benchmarks compare with: it reads the whole body and
// answers a few bytes, through the same server and guard.
func noop(c echo.Context) error {
	if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, noopAnswer)
}

var noopAnswer = []byte(`{"ok":true}` + "\n")
