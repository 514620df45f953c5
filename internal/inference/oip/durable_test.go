package oip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/web/download"
	"sluice/internal/platform/web/idempotency"
)

// damaged is a Durable whose first answer breaks off on its way.
type damaged struct{ opened atomic.Int32 }

func (*damaged) Accept(context.Context, Question, string) (string, error) { return "prd_1", nil }

func (d *damaged) Await(context.Context, string, time.Duration) (Outcome, error) {
	text := strings.Repeat("x", 100<<10)
	return Outcome{Final: true, Header: http.Header{}, Answer: download.Content{Size: int64(len(text)), Type: "application/json",
		Open: func(context.Context, int64, int64) (io.ReadCloser, error) {
			if d.opened.Add(1) > 1 {
				return io.NopCloser(strings.NewReader(text)), nil
			}
			return io.NopCloser(io.MultiReader(strings.NewReader(text[:len(text)-1]), badDisk{})), nil
		}}}, nil
}

type badDisk struct{}

func (badDisk) Read([]byte) (int, error) { return 0, errors.New("the disk is damaged") }

// An answer that breaks off is not what a repetition gets.
func TestPartOfAnAnswerIsNotKept(t *testing.T) {
	e := echo.New()
	e.HTTPErrorHandler = ErrorHandler
	signedIn := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.SetRequest(c.Request().WithContext(access.With(c.Request().Context(), &access.Principal{Tenant: "t", Subject: "s"})))
			return next(c)
		}
	}
	e.Use(signedIn)
	err := Register(e, testModels(), Config{Durable: &damaged{}, Once: idempotency.New(idempotency.NewMemory(time.Now), idempotency.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	ask := func() (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v2/models/m/infer", bytes.NewReader([]byte(jsonRequest)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Idempotency-Key", "k")
		r.Header.Set("Prefer", "wait=5")
		return http.DefaultClient.Do(r)
	}
	if resp, err := ask(); err == nil {
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("a part was answered as the whole: %d, %d bytes", resp.StatusCode, len(b))
		}
	}
	resp, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || len(b) != 100<<10 {
		t.Errorf("the repetition got %d, %d bytes, %v", resp.StatusCode, len(b), err)
	}
}
