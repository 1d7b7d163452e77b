package upload

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"code.dny.dev/ssrf"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
)

// kind says what follows from a fault.
type kind int

// maxQuoted bounds what is quoted of an answer, in bytes.
const maxQuoted = 100

const (
	// later means that this recording is tried again later. The fault may end it after many attempts.
	later kind = iota + 1
	// never means that this recording cannot be uploaded as it is.
	never
	// tenantWide means that the pod cannot upload any recording of the tenant now. Waiting may help.
	tenantWide
	// misconfigured is as tenantWide, and a person must correct the Tenant.
	misconfigured
)

// fault is why a transfer did not end in a verified object. Its text says what happened, why, and what to do, and goes
// into the recording's row: no credentials, no query of a URL.
type fault struct {
	kind kind
	code string
	text string
	// wait is the least time until the next try, as the other side asked for it.
	wait  time.Duration
	cause error
	// detail is what the platform's log says in addition.
	detail string
}

// Error returns the text.
func (f *fault) Error() string { return f.text }

// Unwrap returns the cause, by which package resilience classifies.
func (f *fault) Unwrap() error { return f.cause }

// asFault makes a fault of any error of a transfer.
func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	var open *resilience.OpenError
	if errors.As(err, &open) {
		return openFault(open)
	}
	return storageFault(err)
}

// openFault returns the fault for an open circuit breaker. All recordings of the tenant wait until the breaker's next
// trial.
func openFault(open *resilience.OpenError) *fault {
	code := reason.StorageUnavailable
	if open.Dependency == dependencyExotel {
		code = reason.SourceUnavailable
	}
	return &fault{kind: tenantWide, code: code, text: open.Error(), wait: time.Until(open.Until), cause: open}
}

// storageFault is for what the bucket's side reported.
func storageFault(err error) *fault {
	cause := objectstore.CauseOf(err)
	if cause.Reason == "" {
		return &fault{
			kind:  later,
			code:  reason.StorageUnavailable,
			cause: err,
			text:  fmt.Sprintf("the object could not be stored: %s; it will be tried again", storageCause(err)),
			wait:  retryAfter(err),
		}
	}
	f := &fault{
		kind:  tenantWide,
		code:  reason.Storage(string(cause.Reason)),
		text:  objectstore.Explain(err),
		cause: err,
		wait:  retryAfter(err),
	}
	if cause.Stop {
		f.kind = misconfigured
	}
	return f
}

// storageCause is as much of an error as the Tenant's author may see.
func storageCause(err error) string {
	var none *objectstore.NoAnswerError
	if errors.As(err, &none) {
		return none.Error()
	}
	return words(err)
}

// requestFault is for a request that got no answer.
func requestFault(host string, err error) *fault {
	var refused *recording.SourceError
	if errors.As(err, &refused) {
		return &fault{kind: never, code: reason.SourceRefused, text: refused.Reason, cause: resilience.Abort(err)}
	}
	if errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork) ||
		errors.Is(err, ssrf.ErrProhibitedPort) {
		text := fmt.Sprintf("the host %s has a private address now: recordings are fetched from public addresses, or "+
			"from ranges that the platform allows (--allowed-source-cidrs)", host)
		return &fault{
			kind:  later,
			code:  reason.SourceRefused,
			cause: resilience.Abort(err),
			text:  text + "; it will be tried again, since DNS may be wrong",
		}
	}
	return &fault{
		kind:   later,
		code:   reason.SourceUnavailable,
		cause:  err,
		detail: words(err),
		text:   fmt.Sprintf("%s %s; it will be tried again", host, noAnswer(err)),
	}
}

// noAnswer says what came in place of an answer. The addresses of the platform's pods and proxies are part of most
// errors, and the difference between a refused connection and a silent address would describe its network: the
// Tenant's author, who names the host, learns neither.
func noAnswer(err error) string {
	fault := objectstore.CertificateFault(err)
	switch {
	case fault != "":
		return "has a certificate that " + fault
	case errors.Is(err, errStalled):
		return "sent no byte for too long"
	}
	return "did not answer"
}

// lostConnection is for a body that broke off: it says no more than noAnswer does.
func lostConnection(err error) string {
	if errors.Is(err, errStalled) {
		return errStalled.Error()
	}
	return "the connection was lost"
}

// statusFault returns the fault for an answer that is not a recording. head is the beginning of its body.
func statusFault(answer *resilience.HTTPError, head []byte) *fault {
	f := &fault{kind: later, code: reason.SourceUnavailable, cause: answer, wait: answer.RetryAfter}
	switch status := answer.Status; {
	case status == http.StatusNotFound,
		status == http.StatusForbidden && s3NotThere(head),
		status >= 200 && status < 300:
		f.code = reason.SourceNotReady
		f.text = fmt.Sprintf("the recording is not there yet: %v; Exotel may take up to two hours", answer)
	case status == http.StatusForbidden && expired(head):
		f.kind = never
		f.code = reason.SourceExpired
		f.text = fmt.Sprintf(
			"the signed source URL has expired: %v; ask Exotel's Call Details for a new one, or use the recording's "+
				"plain URL",
			answer,
		)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		f.code = reason.SourceCredentialsRefused
		f.text = fmt.Sprintf(
			"Exotel refused the credentials: %v; correct the Secret that spec.exotel.credentialsSecretRef names, or "+
				"let Exotel admit this cluster's address",
			answer,
		)
	case resilience.Classify(answer) == resilience.Transient:
		f.text = fmt.Sprintf("Exotel could not answer: %v; it will be tried again", answer)
	default:
		f.kind = never
		f.code = reason.SourceRefused
		f.text = fmt.Sprintf("the source refused the request: %v; check the recording's URL", answer)
	}
	return f
}

// notReady returns the fault for a recording that Exotel does not have yet. The recording is tried again later.
func notReady(format string, args ...any) *fault {
	return &fault{kind: later, code: reason.SourceNotReady, text: fmt.Sprintf(format, args...)}
}

// notAudio is for a body that begins with head. A source may publish the recording later, so it is tried again.
func notAudio(contentType string, head []byte) *fault {
	text := fmt.Sprintf("the source answered with %s that is not audio (MP3, WAV or another known format)",
		cmp.Or(bounded.Text(contentType, maxQuoted), "content"))
	if utf8.Valid(head[:min(len(head), maxQuoted)]) {
		text += fmt.Sprintf(": %q", bounded.Text(string(head), maxQuoted))
	}
	text += "; it will be tried again, check the recording's URL if this lasts"
	return &fault{kind: later, code: reason.SourceNotAudio, text: text}
}

// brokenFault returns the fault for a download that ended early or does not match. The recording is tried again later.
func brokenFault(format string, args ...any) *fault {
	return &fault{kind: later, code: reason.SourceBroken, text: fmt.Sprintf(format, args...)}
}

// withDetail adds the text of an error to the fault for the log. The recording's row does not get it.
func (f *fault) withDetail(err error) *fault {
	f.detail = words(err)
	return f
}

// tooLarge returns the fault for a recording over the limit. The recording is not tried again.
func tooLarge(limit int64) *fault {
	return &fault{
		kind: never,
		code: reason.SourceTooLarge,
		text: fmt.Sprintf(
			"the recording is longer than %d bytes: raise the operator's --max-recording-bytes "+
				"(upload.maxRecordingBytes of the chart) if that is right",
			limit,
		),
	}
}

// databaseFault returns the fault for a database that does not answer. All recordings of the tenant wait.
func databaseFault(err error) *fault {
	return &fault{kind: tenantWide, code: reason.DatabaseUnavailable, text: err.Error(), cause: err}
}

// maxWords bounds what a fault quotes of an error, in bytes. The other side's header or certificate may be part of it.
const maxWords = 256

// words returns the text of an error without the URL that net/http puts into it: a signed one is as good as a password.
func words(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return bounded.Text(err.Error(), maxWords)
}

// retryAfter returns the wait that the server asked for, or 0.
func retryAfter(err error) time.Duration {
	var answer *resilience.HTTPError
	if errors.As(err, &answer) {
		return answer.RetryAfter
	}
	return 0
}
