package objectstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/resilience"
)

// Reason says what a probe found wrong.
type Reason string

// Reasons of a failed probe. They are condition reasons too.
const (
	BucketNotFound      Reason = "BucketNotFound"
	AccessDenied        Reason = "AccessDenied"
	EndpointUnreachable Reason = "EndpointUnreachable"
	EndpointNotAllowed  Reason = "EndpointNotAllowed"
)

// ProbeError says what is wrong with a bucket and what to do.
type ProbeError struct {
	Reason  Reason
	Message string
	err     error
}

// Error returns the message.
func (e *ProbeError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *ProbeError) Unwrap() error { return e.err }

// Probe returns *ProbeError unless the endpoint answers, knows the bucket and takes the credentials. It lists one
// object rather than asking HEAD, which needs the same right, since only an answer with a body says what is wrong.
// It makes one request.
func (b *Bucket) Probe(ctx context.Context) error {
	ctx, stop := context.WithCancel(withListing(withRequests(ctx, 1))) // ends the listing after its first answer
	defer stop()
	first, found := <-b.core.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{MaxKeys: 1})
	if found && first.Err != nil && !errors.Is(first.Err, errRequests) { // a first page without a key is an answer too
		return b.probeError(b.explain(first.Err))
	}
	if found {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return b.probeError(&NoAnswerError{Host: b.host, cause: resilience.Retryable(err)})
	}
	return nil
}

func (b *Bucket) probeError(err error) *ProbeError {
	e := &ProbeError{Reason: ConfigFault(err), err: err}
	switch e.Reason {
	case BucketNotFound:
		e.Message = fmt.Sprintf("%s has no bucket %q: create it, or correct spec.recordings.bucket, endpoint and region", b.host, b.name)
	case AccessDenied:
		e.Message = fmt.Sprintf("%s refused the credentials for bucket %q (%s): "+
			"correct the Secret that spec.recordings.credentialsSecretRef names, or what its key may do", b.host, b.name, code(err))
	default:
		e.Reason = EndpointUnreachable
		e.Message = fmt.Sprintf("bucket %q: %v; correct spec.recordings.endpoint, or wait for the service. A store "+
			"with a private address "+
			"must be in the platform's storage.allowedCIDRs; the operator's log has the cause", b.name, err)
	}
	return e
}

// NotAllowed returns the *ProbeError for an endpoint that the platform's Policy does not allow.
func NotAllowed(err *PolicyError) *ProbeError {
	return &ProbeError{Reason: EndpointNotAllowed, Message: fmt.Sprintf("spec.recordings.endpoint: %v", err), err: err}
}

// ConfigFault tells whether an error means that the bucket or its credentials are wrong for every object: BucketNotFound
// or AccessDenied, otherwise "".
func ConfigFault(err error) Reason {
	var none *NoAnswerError
	var answer *resilience.HTTPError
	if errors.As(err, &none) || !errors.As(err, &answer) { // the status of another service says nothing about the bucket
		return ""
	}
	switch answer.Code {
	case "NoSuchBucket":
		return BucketNotFound
	case "XAdminUserNotFound": // versitygw's word for an unknown access key
		return AccessDenied
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccountProblem", "AllAccessDisabled",
		"AuthorizationHeaderMalformed", "InvalidToken", "NotSignedUp", "PermanentRedirect", "InvalidBucketName":
		return AccessDenied
	}
	if answer.Status == 401 || answer.Status == 403 {
		return AccessDenied
	}
	return ""
}

func code(err error) string {
	var answer *resilience.HTTPError
	if errors.As(err, &answer) && answer.Code != "" {
		return answer.Code
	}
	return "access denied"
}

// gone tells whether what was to be removed is not there.
func gone(err error) bool {
	var answer *resilience.HTTPError
	return errors.Is(err, ErrNotFound) || errors.As(err, &answer) && answer.Code == "NoSuchUpload"
}
