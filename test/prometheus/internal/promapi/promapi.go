// Package promapi asks a Prometheus through its HTTP API.
package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// maxAnswer bounds the bytes of an answer.
const maxAnswer = 64 << 20

// Client is a Prometheus.
type Client struct {
	// URL is its address, such as http://127.0.0.1:9090.
	URL string
}

// Range is a span of time with a step.
type Range struct {
	Start, End time.Time
	Step       time.Duration
}

// QueryRange returns the series of an expression over a range, sorted by their labels.
func (c Client) QueryRange(ctx context.Context, expr string, over Range) (model.Matrix, error) {
	var result struct {
		Result model.Matrix `json:"result"`
	}
	err := c.get(ctx, "query_range", url.Values{
		"query": {expr},
		"start": {seconds(over.Start)},
		"end":   {seconds(over.End)},
		"step":  {strconv.FormatFloat(over.Step.Seconds(), 'f', -1, 64)},
	}, &result)
	slices.SortFunc(result.Result, func(a, b *model.SampleStream) int {
		return strings.Compare(a.Metric.String(), b.Metric.String())
	})
	return result.Result, err
}

// Query returns the value of an expression at a time.
func (c Client) Query(ctx context.Context, expr string, at time.Time) (model.Vector, error) {
	var result struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := c.get(ctx, "query", url.Values{"query": {expr}, "time": {seconds(at)}}, &result); err != nil {
		return nil, err
	}
	if result.Type != "vector" {
		return nil, fmt.Errorf("%s: the result is a %s; want a vector", expr, result.Type)
	}
	var vector model.Vector
	err := json.Unmarshal(result.Result, &vector)
	return vector, err
}

// LabelValues returns the values of a label over a range, of the series that a selector matches.
func (c Client) LabelValues(ctx context.Context, selector, label string, over Range) ([]string, error) {
	var values []string
	err := c.get(ctx, "label/"+url.PathEscape(label)+"/values", url.Values{
		"match[]": {selector},
		"start":   {seconds(over.Start)},
		"end":     {seconds(over.End)},
	}, &values)
	return values, err
}

func seconds(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)
}

func (c Client) get(ctx context.Context, path string, query url.Values, into any) error {
	target := c.URL + "/api/v1/" + path + "?" + query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	var answer struct {
		Error string          `json:"error"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("prometheus answered %s: %w", response.Status, err)
	}
	if answer.Error != "" {
		return errors.New(query.Get("query") + ": " + answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// Rule is a rule of an alert or a recording rule.
type Rule struct {
	Name  string `json:"name"`
	Query string `json:"query"`
	Type  string `json:"type"`
}

// Rules returns all rules.
func (c Client) Rules(ctx context.Context) ([]Rule, error) {
	var result struct {
		Groups []struct {
			Rules []Rule `json:"rules"`
		} `json:"groups"`
	}
	err := c.get(ctx, "rules", nil, &result)
	var all []Rule
	for _, group := range result.Groups {
		all = append(all, group.Rules...)
	}
	return all, err
}
