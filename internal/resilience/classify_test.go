package resilience

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"
)

func TestClassify(t *testing.T) {
	answer := func(status int, code string) error { return &HTTPError{Host: "h", Status: status, Code: code} }
	tests := map[string]struct {
		err  error
		want Class
	}{
		"200 that is not a success":    {answer(200, ""), Permanent},
		"400":                          {answer(400, ""), Permanent},
		"401":                          {answer(401, ""), Permanent},
		"403 AccessDenied":             {answer(403, "AccessDenied"), Permanent},
		"404":                          {answer(404, ""), Permanent},
		"404 NoSuchBucket":             {answer(404, "NoSuchBucket"), Permanent},
		"404 NoSuchUpload":             {answer(404, "NoSuchUpload"), Transient},
		"408":                          {answer(408, ""), Transient},
		"425":                          {answer(425, ""), Transient},
		"429":                          {answer(429, ""), Transient},
		"499":                          {answer(499, ""), Transient},
		"500":                          {answer(500, ""), Transient},
		"501":                          {answer(501, ""), Permanent},
		"503 SlowDown":                 {answer(503, "SlowDown"), Transient},
		"400 RequestTimeout":           {answer(400, "RequestTimeout"), Transient},
		"429 RequestRateLimitExceeded": {answer(429, "RequestRateLimitExceeded"), Transient},
		"403 RequestThrottled":         {answer(403, "RequestThrottled"), Transient},
		"520":                          {answer(520, ""), Transient},
		"wrapped":                      {fmt.Errorf("put: %w", answer(503, "")), Transient},
		"cancelled":                    {&url.Error{Op: "Get", Err: context.Canceled}, Permanent},
		"deadline":                     {&url.Error{Op: "Get", Err: context.DeadlineExceeded}, Transient},
		"refused":                      {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, Transient},
		"reset":                        {fmt.Errorf("read: %w", syscall.ECONNRESET), Transient},
		"broken pipe":                  {syscall.EPIPE, Transient},
		"cut short":                    {io.ErrUnexpectedEOF, Transient},
		"no such host":                 {&net.DNSError{Err: "no such host", IsNotFound: true}, Transient},
		"unknown authority":            {&url.Error{Op: "Get", Err: x509.UnknownAuthorityError{}}, Permanent},
		"certificate of another host": {&url.Error{
			Op:  "Get",
			Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"},
		}, Permanent},
		"breaker open":        {&OpenError{Dependency: "s3"}, Transient},
		"unknown":             {errors.New("a mistake of ours"), Permanent},
		"aborted":             {Abort(answer(503, "")), Permanent},
		"retryable":           {Retryable(errors.New("x")), Transient},
		"outermost mark wins": {Abort(fmt.Errorf("x: %w", Retryable(io.EOF))), Permanent},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Classify(tc.err); got != tc.want {
				t.Errorf("Classify(%v) = %v, want %v", tc.err, got, tc.want)
			}
		})
	}
	if Abort(nil) != nil || Retryable(nil) != nil {
		t.Error("a mark on no error is an error")
	}
	if err := Abort(io.EOF); !errors.Is(err, io.EOF) {
		t.Error("a mark hides the error")
	}
}

func TestHTTPErrorText(t *testing.T) {
	for want, e := range map[string]*HTTPError{
		"h answered 503 SlowDown":  {Host: "h", Status: 503, Code: "SlowDown"},
		"h answered 404 Not Found": {Host: "h", Status: 404},
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"":             0,
		"0":            0,
		"5":            5 * time.Second,
		"-5":           0,
		"999999999999": 24 * time.Hour,
		"soon":         0,
		now.AddDate(7000, 0, 0).Format(http.TimeFormat): 24 * time.Hour,
		now.Add(time.Minute).Format(http.TimeFormat):    time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat):   0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {in}}, now); got != want {
			f.Errorf("RetryAfter(%q) = %s, want %s", in, got, want)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if wait := RetryAfter(http.Header{"Retry-After": {s}}, now); wait < 0 || wait > 24*time.Hour {
			t.Errorf("RetryAfter(%q) = %s", s, wait)
		}
	})
}
