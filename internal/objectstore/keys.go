package objectstore

import (
	"log/slog"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caly-dev/caly/internal/secret"
)

// redacted is what a text shows of a structure with credentials.
const redacted = secret.Sensitive("")

// Keys are the credentials of a request.
type Keys struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// String hides the credentials.
func (Keys) String() string { return redacted.String() }

// GoString hides the credentials from %#v.
func (Keys) GoString() string { return redacted.GoString() }

// LogValue hides the credentials from slog.
func (Keys) LogValue() slog.Value { return redacted.LogValue() }

// String hides the credentials.
func (TemporaryKey) String() string { return redacted.String() }

// GoString hides the credentials from %#v.
func (TemporaryKey) GoString() string { return redacted.GoString() }

// LogValue hides the credentials from slog.
func (TemporaryKey) LogValue() slog.Value { return redacted.LogValue() }

// String hides the token.
func (WebIdentity) String() string { return redacted.String() }

// GoString hides the token from %#v.
func (WebIdentity) GoString() string { return redacted.GoString() }

// LogValue hides the token from slog.
func (WebIdentity) LogValue() slog.Value { return redacted.LogValue() }

// current has the client ask for the credentials of each request, so that an upload in parts survives their renewal.
type current func() Keys

// Retrieve implements credentials.Provider.
func (c current) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (c current) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	k := c()
	return credentials.Value{
		AccessKeyID:     k.AccessKeyID,
		SecretAccessKey: k.SecretAccessKey,
		SessionToken:    k.SessionToken,
		SignerType:      credentials.SignatureV4,
	}, nil
}

// IsExpired implements credentials.Provider. The client asks again at the next request.
func (current) IsExpired() bool { return true }
