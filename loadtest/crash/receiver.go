package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	"sluice/loadtest/crash/ledger"
)

// receiver takes webhooks, and says of a few at first that it cannot.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex
	taken []ledger.Hook
	asked map[string]bool
}

// newReceiver listens with TLS, and writes the certificate to a file.
func newReceiver(certificate string) (*receiver, error) {
	r := &receiver{asked: map[string]bool{}}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of connections that were cut
	r.StartTLS()
	block := &pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}
	return r, os.WriteFile(certificate, pem.EncodeToMemory(block), 0o600)
}

// ServeHTTP takes a webhook.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Type string
		Data struct {
			ID       string
			Sequence int64
		}
	}
	id := req.Header.Get("webhook-id")
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil || id == "" {
		http.Error(w, fmt.Sprint("no webhook: ", err), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first := !r.asked[id]; first && id[len(id)-1] == 'f' {
		r.asked[id] = true
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.taken = append(r.taken, ledger.Hook{ID: id, Type: body.Type, Subject: body.Data.ID, Sequence: body.Data.Sequence, At: time.Now().UTC()})
}

func (r *receiver) hooks() []ledger.Hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}
