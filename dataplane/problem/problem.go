// Package problem writes errors as RFC 9457 problem bodies.
package problem

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Code is a stable name of an error: the same in the body, the log and the metric.
type Code string

// Codes that the webhook path answers.
const (
	NotFound         Code = "not_found"
	MethodNotAllowed Code = "method_not_allowed"
	InvalidSignature Code = "invalid_signature"
	Forbidden        Code = "forbidden"
	PayloadTooLarge  Code = "payload_too_large"
	Validation       Code = "validation"
	Timeout          Code = "timeout"
	Unavailable      Code = "unavailable"
	Overloaded       Code = "overloaded"
	Internal         Code = "internal"
)

// Problem is one error as the outside sees it.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	Code      Code   `json:"code"`
	RequestID string `json:"requestId,omitempty"`
	// RetryAfter becomes the header of that name.
	RetryAfter time.Duration `json:"-"`
}

// New returns a problem with the status's own text as its title.
func New(status int, code Code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// Error makes a Problem an error, for functions that return one.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter, requestID string) {
	body := *p
	body.RequestID = requestID
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(body) // the peer may have gone; there is nobody to tell
}
