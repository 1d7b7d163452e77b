package resilience

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// Class says whether trying again can help.
type Class int

// Classes of failures.
const (
	// Transient means that the same call may succeed later, unchanged.
	Transient Class = iota + 1
	// Permanent means that the same call fails again until something is changed, or that the caller gave up.
	Permanent
)

// String names the class.
func (c Class) String() string {
	if c == Transient {
		return "transient"
	}
	return "permanent"
}

// HTTPError is an unsuccessful answer.
type HTTPError struct {
	// Host that answered, without path or query.
	Host string
	// Status is the HTTP status.
	Status int
	// Code is the answer's own error code (S3: SlowDown, NoSuchBucket ...), if it has one.
	Code string
	// RetryAfter is how long the server asked to be left alone; 0 when it did not.
	RetryAfter time.Duration
}

// Error says who answered what.
func (e *HTTPError) Error() string {
	text := http.StatusText(e.Status)
	if e.Code != "" {
		text = e.Code
	}
	return fmt.Sprintf("%s answered %d %s", e.Host, e.Status, text)
}

// transientCodes are error codes of S3 services that mean "later", whatever the status. They are many since each
// service names its throttling itself.
var transientCodes = map[string]bool{
	"RequestRateLimitExceeded": true,
	"SlowDown":                 true,
	"SlowDownRead":             true,
	"SlowDownWrite":            true,
	"Throttling":               true,
	"ThrottlingException":      true,
	"RequestLimitExceeded":     true,
	"RequestThrottled":         true,
	"TooManyRequests":          true,
	"BandwidthLimitExceeded":   true,
	"RequestTimeout":           true,
	"InternalError":            true,
	"ServiceUnavailable":       true,
	"OperationAborted":         true,
	"NoSuchUpload":             true,
	"IncompleteBody":           true,
}

// transientStatus are the HTTP statuses that mean "later". 408, 425, 429 by their definition; 499 and 520 to 524 come from
// proxies in front of a server that did not answer.
func transientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, 499:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= 500
}

// classed carries a class that its maker knows better than the table.
type classed struct {
	error
	class Class
}

func (c classed) Unwrap() error { return c.error }

// Abort marks an error as not worth another try here, and as one that says nothing of the dependency.
func Abort(err error) error {
	if err == nil {
		return nil
	}
	return classed{err, Permanent}
}

func aborted(err error) bool {
	var own classed
	return errors.As(err, &own) && own.class == Permanent
}

// Retryable marks an error as worth another try.
func Retryable(err error) error {
	if err == nil {
		return nil
	}
	return classed{err, Transient}
}

// Classify is the one table of what is worth another try. What it does not know is permanent, so that a mistake of ours is
// not repeated against somebody else's server.
func Classify(err error) Class {
	var own classed
	if errors.As(err, &own) {
		return own.class
	}
	var answer *HTTPError
	if errors.As(err, &answer) {
		return classifyAnswer(answer)
	}
	var open *OpenError
	if errors.As(err, &open) {
		return Transient
	}
	return classifyNetwork(err)
}

func classifyAnswer(e *HTTPError) Class {
	if transientCodes[e.Code] || transientStatus(e.Status) {
		return Transient
	}
	return Permanent
}

func classifyNetwork(err error) Class {
	switch {
	case errors.Is(err, context.Canceled), untrusted(err):
		return Permanent
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPIPE):
		return Transient
	}
	// net.Error covers DNS, dialling and time-outs, and *url.Error around whatever net/http reports of a connection.
	var network net.Error
	if errors.As(err, &network) {
		return Transient
	}
	return Permanent
}

// untrusted tells whether a server's certificate was refused: that stays so until somebody replaces it.
func untrusted(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
	)
	return errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &verify)
}

// RetryAfter reads a Retry-After header, seconds or an HTTP date; 0 when there is none or it is unreadable or past.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		// A day is longer than anything here waits, and keeps the multiplication from overflowing.
		return time.Duration(min(max(n, 0), 86400)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), 24*time.Hour)
	}
	return 0
}
