//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// watch is the Prometheus that scrapes the installation under test.
type watch struct {
	url string
}

// query returns the labels of the series that an expression has now.
func (w watch) query(ctx context.Context, expr string) ([]map[string]string, error) {
	target := w.url + "/api/v1/query?" + url.Values{"query": {expr}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(expr + ": " + answer.Error)
	}
	var series []map[string]string
	for _, result := range answer.Data.Result {
		series = append(series, result.Metric)
	}
	return series, nil
}
