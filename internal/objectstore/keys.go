package objectstore

import "github.com/minio/minio-go/v7/pkg/credentials"

// Keys are the credentials of a request.
type Keys struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// current has the client ask for the credentials of each request, so that an upload in parts survives their renewal.
type current func() Keys

// Retrieve implements credentials.Provider.
func (c current) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (c current) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	k := c()
	return credentials.Value{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey,
		SessionToken: k.SessionToken,
		SignerType:   credentials.SignatureV4}, nil
}

// IsExpired implements credentials.Provider. The client asks again at the next request.
func (current) IsExpired() bool { return true }
