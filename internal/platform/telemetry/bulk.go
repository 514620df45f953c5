package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"sluice/internal/platform/fault"
)

// post sends a batch and returns the status of each line, none if all are kept.
func (s *Shipper) post(ctx context.Context, batch [][]byte) ([]int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(bytes.Join(batch, nil)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Idempotency-Key", s.cfg.Run) // tells our client that it may repeat this: the lines have ids
	if !s.cfg.APIKey.IsZero() {
		req.Header.Set("Authorization", "ApiKey "+s.cfg.APIKey.Reveal())
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fault.New(fault.Unavailable, "Elasticsearch answered with status %d", resp.StatusCode)
	}
	return statuses(resp.Body)
}

// statuses decodes the answer to a bulk request.
func statuses(r io.Reader) ([]int, error) {
	var answer struct {
		Errors bool `json:"errors"`
		Items  []map[string]struct {
			Status int `json:"status"`
		} `json:"items"`
	}
	if err := json.NewDecoder(r).Decode(&answer); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "Elasticsearch's answer cannot be read")
	}
	if !answer.Errors {
		return nil, nil
	}
	out := make([]int, len(answer.Items))
	for i, item := range answer.Items {
		out[i] = item["create"].Status
	}
	return out, nil
}

// settle counts what became of a batch, and returns the lines to send again.
func (s *Shipper) settle(batch [][]byte, statuses []int) (again [][]byte) {
	shipped, refused := 0, 0
	for i, line := range batch {
		status := http.StatusCreated
		if statuses != nil {
			status = http.StatusServiceUnavailable // an answer without this line
			if i < len(statuses) {
				status = statuses[i]
			}
		}
		switch {
		case status < 300, status == http.StatusConflict: // there from an earlier attempt
			shipped++
		case status == http.StatusTooManyRequests, status >= 500:
			again = append(again, line)
		default:
			refused++
		}
	}
	s.count("shipped", shipped)
	s.count("refused", refused)
	return again
}
