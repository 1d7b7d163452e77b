// Package tenantconfig is what the operator compiles from a Tenant and its Secrets, how it is written into Secrets, and
// how the pods read it.
//
// Two Secrets per tenant, so that each reader holds what it needs: the tenant config for data-plane pods (how to verify
// webhooks; for a tenant with accounts also how people sign in, and for one with accounts or captured streams the bucket
// credentials that links to download are signed with, and captures are stored with) and the upload config for the tenant's own
// upload pods (Exotel, bucket and database credentials). The upload config is in a namespace that the data plane cannot
// read.
package tenantconfig

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/secret"
)

// Version is the version of the encoding. A pod refuses a config of another version and keeps the one it has.
const Version = 2

// Key is the key of the encoded config in its Secret's data.
const Key = "config.json"

// Tenant is what a data-plane pod knows of a tenant. It is immutable once decoded.
type Tenant struct {
	Version int `json:"version"`
	// ID is namespace/name.
	ID string `json:"id"`
	// UID of the Tenant object: a Tenant that was deleted and made again under the name is another one.
	UID string `json:"uid"`
	// Generation of the Tenant that was compiled.
	Generation int64 `json:"generation"`
	// Created is when the Tenant was created. Of two configs with one name, the older one keeps it. Zero in a config that
	// an operator of an earlier version wrote.
	Created time.Time `json:"created,omitzero"`
	// Suspended refuses webhooks, and whatever asks for an account.
	Suspended bool `json:"suspended,omitempty"`
	// AccountSID of Exotel. Empty if the account belongs to another tenant.
	AccountSID string `json:"accountSID"`
	// SharesAccount reports that the tenant shares the account with its owner.
	SharesAccount bool `json:"sharesAccount,omitempty"`
	// PhoneNumbers in E.164.
	PhoneNumbers []string `json:"phoneNumbers,omitempty"`
	// TimeZone is an IANA name for times without a zone.
	TimeZone string `json:"timeZone"`
	// Webhooks verifies webhooks; nil refuses all.
	Webhooks *Webhooks `json:"webhooks,omitempty"`
	// Freshness is how old the event that a webhook tells of may be, by its own time.
	Freshness time.Duration `json:"freshness"`
	// AllowedSourceHosts of recordings: host, "*.domain", optional port.
	AllowedSourceHosts []string `json:"allowedSourceHosts"`
	// Auth is how the tenant's people sign in; nil: it has no accounts.
	Auth *Auth `json:"auth,omitempty"`
	// Storage is where the recordings lie, only with Auth or captured Audio.
	Storage *Storage `json:"storage,omitempty"`
	// Audio is where live audio goes; nil: the tenant takes no streams.
	Audio *Audio `json:"audio,omitempty"`
}

// Upload is what a tenant's upload pods know.
type Upload struct {
	Version int `json:"version"`
	// ID is namespace/name.
	ID string `json:"id"`
	// Exotel credentials: sent to Exotel's own hosts and to ExotelAPI, and with no signed URL.
	ExotelKey   secret.Sensitive `json:"exotelKey"`
	ExotelToken secret.Sensitive `json:"exotelToken"`
	// ExotelAPI is the address that the Tenant names for Exotel's API; empty for a region's.
	ExotelAPI string `json:"exotelAPI,omitempty"`
	// AllowedSourceHosts of recordings: host, "*.domain", optional port.
	AllowedSourceHosts []string `json:"allowedSourceHosts"`
	// Storage is where the recordings go.
	Storage
	// KeyTemplate makes the object's key.
	KeyTemplate string `json:"keyTemplate"`
	// DatabaseURL connects as the tenant's own role.
	DatabaseURL secret.Sensitive `json:"databaseURL"`
}

// SecretName is the name of a tenant's Secret or Job: a prefix and a digest of the tenant's id, since
// "a-b/c" and "a/b-c" would meet in any plain joining.
func SecretName(prefix, tenantID string) string {
	sum := sha256.Sum256([]byte(tenantID))
	return prefix + "-" + hex.EncodeToString(sum[:8])
}

// Prefixes for SecretName.
const (
	PrefixTenant = "tenant"
	PrefixUpload = "upload"
)

// DefaultSourceHosts serve Exotel's recordings.
var DefaultSourceHosts = exotel.RecordingHosts()

// RefreshDelay bounds how long a rotated Secret may take to be live in a pod that watches.
const RefreshDelay = 5 * time.Second
