package oip

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// full foresees that it refuses everything.
type full struct{ *identityModels }

func (full) Foresee(_ context.Context, c serve.Codec) error {
	if online, ok := c.(serve.Online); !ok || online.Online() < 0 {
		return nil
	}
	return fault.New(fault.Unavailable, "there is too much to do")
}

// A small body is read: what is wrong with it is told first.
func TestSmallBodyIsRead(t *testing.T) {
	e := echo.New()
	e.HTTPErrorHandler = ErrorHandler
	if err := Register(e, full{testModels()}, Config{}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v2/models/m/infer", strings.NewReader("{")))
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// unreadable is a body that nobody may read.
type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("read")
}

func TestRefusedBeforeItIsRead(t *testing.T) {
	e := echo.New()
	e.HTTPErrorHandler = ErrorHandler
	if err := Register(e, full{testModels()}, Config{}); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/v2/models/m/infer", io.NopCloser(unreadable{t}))
	for _, r.ContentLength = range []int64{-1, foreseenFrom, 1 << 20} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != `{"error":"there is too much to do"}` {
			t.Errorf("%d bytes: %d %s", r.ContentLength, w.Code, w.Body)
		}
	}
}
