package objectstore

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/resilience"
)

// NoAnswerError is the error of a request to which no S3 service answered. Its text is the same whatever happened
// instead: a tenant names the endpoint, and the difference between a refused connection, a silent address, an
// unknown name and a page of another service would describe the platform's network to the tenant. Detail returns
// the cause.
type NoAnswerError struct {
	// Host that was asked.
	Host  string
	cause error
}

// Error says that there was no answer.
func (e *NoAnswerError) Error() string { return "no S3 answer from " + e.Host }

// Unwrap returns the cause, by which package resilience classifies.
func (e *NoAnswerError) Unwrap() error { return e.cause }

// maxDetail bounds a cause, in bytes: parts of it may be the words of a store.
const maxDetail = 500

// Detail returns the text of an error with the cause that a *NoAnswerError hides. It is for the platform's logs alone.
func Detail(err error) string {
	var none *NoAnswerError
	if !errors.As(err, &none) {
		return bounded.Text(err.Error(), maxDetail)
	}
	return bounded.Text(err.Error()+": "+none.cause.Error(), maxDetail)
}

// AnswerError is an error answer of a store, with what the store says about the cause.
type AnswerError struct {
	*resilience.HTTPError
	// Text is the store's own message, as cleanText returns it.
	Text string
	// Region is where the bucket is, and Endpoint where it must be asked. Both are empty if the store does not say so.
	Region, Endpoint string
	// RequestID is the store's name for the request; empty if it did not say.
	RequestID string
	// renewed is Config.Renewed of the bucket.
	renewed bool
	// Time is the store's clock; zero if it did not say.
	Time time.Time
}

// Error says who answered what, in the store's own words.
func (e *AnswerError) Error() string {
	text := e.HTTPError.Error()
	if e.Text != "" {
		text += fmt.Sprintf(" %q", e.Text)
	}
	if e.Region != "" {
		text += ", and names the region " + e.Region
	}
	if e.Endpoint != "" {
		text += ", and names the endpoint " + e.Endpoint
	}
	if skewed[e.Code] && !e.Time.IsZero() {
		text += fmt.Sprintf(": its clock says %s, and the clock of this machine %s", e.Time.UTC().Format(time.RFC3339),
			time.Now().UTC().Format(time.RFC3339))
	}
	return text
}

// Unwrap returns the answer's status and code, by which package resilience classifies.
func (e *AnswerError) Unwrap() error { return e.HTTPError }

// maxText bounds a store's own message, in bytes.
const maxText = 240

// cleanText returns a store's message on one line, and at most maxText bytes of it.
func cleanText(text string) string {
	return bounded.Text(strings.Join(strings.Fields(text), " "), maxText)
}

// noPartsError is the answer of a store that does not know the request which begins an upload in parts.
type noPartsError struct{ cause error }

// Error says what the store does not do, in its own words.
func (e *noPartsError) Error() string {
	return "the store takes no uploads in parts: " + e.cause.Error()
}

// Unwrap returns the answer.
func (e *noPartsError) Unwrap() error { return e.cause }

// certificateError is the error of a store whose certificate cannot be verified. It says which of three faults the
// certificate has, and nothing that is written in it.
type certificateError struct {
	// Host that was asked.
	Host  string
	fault string
	cause error
}

// Error says what is wrong with the certificate.
func (e *certificateError) Error() string { return "the certificate of " + e.Host + " " + e.fault }

// Unwrap returns the cause.
func (e *certificateError) Unwrap() error { return e.cause }

// CertificateFault returns what is wrong with a certificate, or "" if an error is about something else. It continues a
// sentence about the certificate.
func CertificateFault(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "is signed by an unknown authority"
	case errors.As(err, &name):
		return "is for another host name"
	case errors.As(err, &invalid):
		return "has expired, is not valid yet, or must not be used by a server"
	}
	return ""
}

// explain turns the client's error into one that package resilience and CauseOf can judge.
func (b *Bucket) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || b.explained(err) {
		return err
	}
	if errors.Is(err, errRequests) {
		return ErrUnfinished
	}
	if fault := CertificateFault(err); fault != "" {
		return &certificateError{Host: b.host, fault: fault, cause: err}
	}
	answer := b.answerOf(err)
	switch {
	case answer == nil:
		return &NoAnswerError{Host: b.host, cause: resilience.Retryable(err)} // else the class would tell what happened
	case answer.Code == "NoSuchKey", answer.Code == "" && answer.Status == http.StatusNotFound:
		return ErrNotFound
	}
	if answer.Region == b.region {
		answer.Region = ""
	}
	answer.renewed = b.renewed
	return answer
}

// answerOf returns the store's answer that an error holds, or nil. An error within an answer of status 200, such as
// that of a deletion of many objects, is the client's own type.
func (b *Bucket) answerOf(err error) *AnswerError {
	var answer *AnswerError
	if errors.As(err, &answer) {
		return answer
	}
	var inner minio.ErrorResponse
	if !errors.As(err, &inner) {
		return nil
	}
	if cleanCode(inner.Code) == "" && inner.StatusCode < http.StatusMultipleChoices {
		return nil // a page of another service, or nothing, in place of S3's answer
	}
	return &AnswerError{
		HTTPError: &resilience.HTTPError{Host: b.host, Status: inner.StatusCode, Code: cleanCode(inner.Code)},
		Text:      cleanText(inner.Message),
	}
}

// explained reports whether an error went through explain before.
func (b *Bucket) explained(err error) bool {
	var none *NoAnswerError
	return errors.As(err, &none) || errors.Is(err, ErrNotFound)
}
