package tenantconfig

import (
	"errors"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/secret"
)

// Storage is where a tenant's recordings lie: for uploads, for links to download them, and for captures.
type Storage struct {
	// Bucket, Endpoint (URL), Region of the store, with its credentials.
	Bucket          string           `json:"bucket"`
	Endpoint        string           `json:"endpoint"`
	Region          string           `json:"region"`
	AccessKeyID     secret.Sensitive `json:"accessKeyID"`
	SecretAccessKey secret.Sensitive `json:"secretAccessKey"`
	// SessionToken of temporary credentials.
	SessionToken secret.Sensitive `json:"sessionToken,omitempty"`
	// NoLinks means that no link to a recording may be made: it would use plain http, which the platform does not
	// allow.
	NoLinks bool `json:"noLinks,omitempty"`
	// Temporary is set if the operator renews the credentials; nil: they are those of a Secret.
	Temporary *Temporary `json:"temporary,omitempty"`
	objectstore.Options
}

// Temporary is how long credentials are valid.
type Temporary struct {
	// Identity is equal for credentials of one identity.
	Identity string `json:"identity"`
	// Spec is equal for credentials that the same spec of a Tenant asks for. Unlike Identity it does not depend on the
	// ServiceAccount, which may have been deleted.
	Spec string `json:"spec,omitempty"`
	// Issued is when the operator obtained them, Renew when it renews them, and Expires when they are no longer valid.
	Issued  time.Time `json:"issued,omitzero"`
	Renew   time.Time `json:"renew"`
	Expires time.Time `json:"expires"`
}

// Config returns what package objectstore needs.
func (s *Storage) Config() objectstore.Config {
	return objectstore.Config{
		Endpoint:        s.Endpoint,
		Region:          s.Region,
		Bucket:          s.Bucket,
		AccessKeyID:     s.AccessKeyID.Reveal(),
		SecretAccessKey: s.SecretAccessKey.Reveal(),
		SessionToken:    s.SessionToken.Reveal(),
		Renewed:         s.Temporary != nil,
		Options:         s.Options,
	}
}

func (s *Storage) check() error {
	if s != nil && (s.Bucket == "" || s.Endpoint == "" || s.Region == "" || s.AccessKeyID == "" ||
		s.SecretAccessKey == "") {
		return errors.New("the config's storage lacks bucket, endpoint, region or credentials")
	}
	return nil
}

// secrets are the credentials that there are.
func (s *Storage) secrets() []secret.Sensitive {
	if s.SessionToken == "" {
		return []secret.Sensitive{s.AccessKeyID, s.SecretAccessKey}
	}
	return []secret.Sensitive{s.AccessKeyID, s.SecretAccessKey, s.SessionToken}
}
