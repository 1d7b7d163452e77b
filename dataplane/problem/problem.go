// Package problem writes errors as RFC 9457 problem bodies, and is the one table of their codes: bodies, the reference's section and
// the responses of the OpenAPI document come from it.
package problem

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Code is a stable name of an error: the same in the body, the log and the metric.
type Code string

// The codes: a closed set. Table says of each what it means and what to do.
const (
	Validation           Code = "validation"
	Authentication       Code = "authentication"
	InvalidToken         Code = "invalid_token"
	Forbidden            Code = "forbidden"
	NotFound             Code = "not_found"
	Conflict             Code = "conflict"
	RateLimited          Code = "rate_limited"
	PayloadTooLarge      Code = "payload_too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	InvalidSignature     Code = "invalid_signature"
	UpstreamFailure      Code = "upstream_failure"
	Timeout              Code = "timeout"
	Unavailable          Code = "unavailable"
	Database             Code = "database"
	Internal             Code = "internal"
)

// maxFields bounds Problem.Fields.
const maxFields = 32

// Problem is one error as the outside sees it. It is immutable once it was made: the methods With... return another one.
type Problem struct {
	Type      string       `json:"type" format:"uri" doc:"Names the kind of error; the same for every error of a code."`
	Title     string       `json:"title" doc:"The code in words."`
	Status    int          `json:"status" doc:"The HTTP status."`
	Detail    string       `json:"detail,omitempty" doc:"What happened to this request, why, and what to do."`
	Code      Code         `json:"code" doc:"What programs tell errors apart by."`
	RequestID string       `json:"requestId,omitempty" doc:"Names this request in the logs."`
	Fields    []FieldError `json:"errors,omitempty" doc:"What is wrong with which part of the request."`
	Debug     string       `json:"debug,omitempty" doc:"The cause; in development only."`
	// RetryAfter becomes the header of that name.
	RetryAfter time.Duration `json:"-"`
	// Header is added to the answer's.
	Header http.Header `json:"-"`
	// Cause is for the log. Nobody outside sees it, other than as Debug in development.
	Cause error `json:"-"`
}

// FieldError is what is wrong with one part of a request.
type FieldError struct {
	Path    string `json:"path" doc:"A JSON pointer into the body, or the name of a parameter."`
	Message string `json:"message" doc:"What is wrong with it."`
}

// New returns a problem with the code's own status and title.
func New(code Code, detail string) *Problem {
	row := Of(code)
	return &Problem{Type: row.Type(), Title: row.Title, Status: row.Status, Code: row.Code, Detail: detail}
}

// TenantUnknown answers a request whose tenant this pod does not have while the pod lacks tenant configs: the tenant
// may exist.
func TenantUnknown() *Problem {
	return New(Unavailable, "this pod does not know all tenants yet; retry later").WithRetryAfter(tenantsWithin)
}

// tenantsWithin is how long a client waits for a pod to read the tenant configs that it lacks.
const tenantsWithin = 5 * time.Second

// WithStatus answers with another of the code's statuses.
func (p *Problem) WithStatus(status int) *Problem {
	problem := *p
	problem.Status = status
	return &problem
}

// MethodNotAllowed returns a problem of a path that exists and does not support the request's method. The header Allow
// names those that it does, such as "GET, HEAD".
func MethodNotAllowed(detail, allow string) *Problem {
	return New(NotFound, detail).WithStatus(http.StatusMethodNotAllowed).WithHeader("Allow", allow)
}

// WithCause keeps an error for the log.
func (p *Problem) WithCause(err error) *Problem {
	problem := *p
	problem.Cause = err
	return &problem
}

// WithRetryAfter says when to come again.
func (p *Problem) WithRetryAfter(d time.Duration) *Problem {
	problem := *p
	problem.RetryAfter = d
	return &problem
}

// WithHeader adds a header to the answer.
func (p *Problem) WithHeader(name, value string) *Problem {
	problem := *p
	problem.Header = p.Header.Clone()
	if problem.Header == nil {
		problem.Header = http.Header{}
	}
	problem.Header.Add(name, value)
	return &problem
}

// WithField says what is wrong with a part of the request: a JSON pointer into the body, or a parameter's name.
// Beyond maxFields it is left out.
func (p *Problem) WithField(path, message string) *Problem {
	problem := *p
	if len(p.Fields) < maxFields {
		problem.Fields = append(slices.Clip(problem.Fields), FieldError{Path: path, Message: message})
	}
	return &problem
}

// Error makes a Problem an error, for functions that return one.
func (p *Problem) Error() string {
	text := string(p.Code) + ": " + p.Detail
	if p.Cause != nil {
		text += ": " + p.Cause.Error()
	}
	return text
}

// Unwrap leads to the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// GetStatus is the answer's status; it is what huma asks an error for, as for the next two.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders are the answer's headers.
func (p *Problem) GetHeaders() http.Header {
	header := p.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if p.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	return header
}

// ContentType is that of problems, whatever was asked for.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Unread is for an answer to a request whose body was not read: without "Connection: close" net/http would wait for the body first.
func Unread(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter, requestID string) {
	body := *p
	body.RequestID = requestID
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(body) // the peer may have gone; there is nobody to tell
}
