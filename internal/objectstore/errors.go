package objectstore

import (
	"context"
	"errors"

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

// explain turns the client's error into one that package resilience can classify. What S3 said becomes its code alone.
func (b *Bucket) explain(err error) error {
	var answer minio.ErrorResponse
	switch {
	case err == nil, errors.Is(err, context.Canceled), b.explained(err):
		return err
	case errors.Is(err, errRequests):
		return ErrUnfinished
	case !errors.As(err, &answer):
		return &NoAnswerError{Host: b.host, cause: resilience.Retryable(err)} // else the class would tell what happened
	}
	switch answer.Code {
	case "NoSuchKey", "NotFound":
		return ErrNotFound
	}
	return &resilience.HTTPError{Host: b.host, Status: answer.StatusCode, Code: cleanCode(answer.Code)}
}

// explained reports whether an error went through explain before.
func (b *Bucket) explained(err error) bool {
	var none *NoAnswerError
	return errors.As(err, &none) || errors.Is(err, ErrNotFound)
}
