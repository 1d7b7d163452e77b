package tenantconfig

import (
	"errors"

	"github.com/caly-dev/caly/internal/objectstore"
)

// Storage is where a tenant's recordings lie: for uploads, for links to download them, and for captures.
type Storage struct {
	// Bucket, Endpoint (URL), Region of the store, with its credentials.
	Bucket          string    `json:"bucket"`
	Endpoint        string    `json:"endpoint"`
	Region          string    `json:"region"`
	AccessKeyID     Sensitive `json:"accessKeyID"`
	SecretAccessKey Sensitive `json:"secretAccessKey"`
	// SessionToken of temporary credentials.
	SessionToken Sensitive `json:"sessionToken,omitempty"`
	// NoLinks means that no link to a recording may be made: it would use plain http, which the platform does not
	// allow.
	NoLinks bool `json:"noLinks,omitempty"`
	objectstore.Options
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
func (s *Storage) secrets() []Sensitive {
	if s.SessionToken == "" {
		return []Sensitive{s.AccessKeyID, s.SecretAccessKey}
	}
	return []Sensitive{s.AccessKeyID, s.SecretAccessKey, s.SessionToken}
}
