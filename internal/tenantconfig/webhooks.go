package tenantconfig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/secret"
)

// Bounds of the verifiers' secrets, each in bytes.
const (
	// MinSecretLength of a signing secret or token.
	MinSecretLength = 16
	// MinPasswordLength of a password.
	MinPasswordLength = 12
	// MaxSecretLength of any of them.
	MaxSecretLength = 1024
	// MaxSecrets that one verifier may have active at once: every request is held against each of them.
	MaxSecrets = 16
	// maxCIDRs of an allow list.
	maxCIDRs = 64
)

// Bounds of a tenant's Freshness.
const (
	minFreshness     = 5 * time.Minute
	maxFreshness     = 720 * time.Hour
	DefaultFreshness = 72 * time.Hour
)

// Schemes of a Signature.
const (
	SchemeHMACSHA1   = "HMACSHA1"
	SchemeHMACSHA256 = "HMACSHA256"
)

// Encodings of a Signature.
const (
	EncodingAny    = "Any"
	EncodingHex    = "Hex"
	EncodingBase64 = "Base64"
)

// What a Signature signs.
const (
	SignedBody             = "Body"
	SignedURLAndParameters = "URLAndParameters"
	SignedTimestampAndBody = "TimestampAndBody"
)

// Names that are taken where a verifier names none.
const (
	DefaultSignatureHeader = "X-Exotel-Signature"
	DefaultTokenQuery      = "token"
)

// Webhooks are the verifiers of a tenant's webhooks. A nil verifier is not configured; without any, all webhooks are
// refused.
type Webhooks struct {
	// RequireAll of the verifiers to accept. Otherwise one is enough.
	RequireAll bool `json:"requireAll,omitempty"`
	// Signature verifies an HMAC.
	Signature *Signature `json:"signature,omitempty"`
	// Standard verifies as Standard Webhooks says.
	Standard *StandardWebhooks `json:"standardWebhooks,omitempty"`
	// Token verifies a token in the URL.
	Token *Token `json:"token,omitempty"`
	// Basic verifies a user name and its password.
	Basic *BasicAuth `json:"basicAuth,omitempty"`
	// AllowedCIDRs that the request may come from; empty: any.
	AllowedCIDRs []netip.Prefix `json:"allowedCIDRs,omitempty"`
}

// Signature verifies an HMAC in a header. Any of its secrets may match.
type Signature struct {
	// Scheme is SchemeHMACSHA1 or SchemeHMACSHA256.
	Scheme string `json:"scheme"`
	// Encoding is EncodingAny (also when empty), EncodingHex or EncodingBase64.
	Encoding string `json:"encoding,omitempty"`
	// Header that carries the signature; empty: DefaultSignatureHeader.
	Header string `json:"header,omitempty"`
	// Prefix in front of the signature; empty: none, or the scheme's own, such as "sha1=".
	Prefix string `json:"prefix,omitempty"`
	// SignedContent is SignedBody (also when empty), SignedURLAndParameters or SignedTimestampAndBody.
	SignedContent string `json:"signedContent,omitempty"`
	// TimestampHeader and Tolerance are for SignedTimestampAndBody.
	TimestampHeader string        `json:"timestampHeader,omitempty"`
	Tolerance       time.Duration `json:"tolerance,omitempty"`
	// Secrets that are active now, in the order of their keys.
	Secrets []secret.Sensitive `json:"secrets"`
}

// StandardWebhooks verifies the headers webhook-id, webhook-timestamp and webhook-signature.
type StandardWebhooks struct {
	// Tolerance of the timestamp, into the past and into the future.
	Tolerance time.Duration `json:"tolerance"`
	// Secrets that are active now, decoded, in the order of their keys.
	Secrets []secret.Sensitive `json:"secrets"`
}

// Token verifies a token in the query or at the end of the path.
type Token struct {
	// Query is the parameter's name; empty: DefaultTokenQuery.
	Query string `json:"query,omitempty"`
	// Secrets that are active now, in the order of their keys.
	Secrets []secret.Sensitive `json:"secrets"`
}

// BasicAuth verifies HTTP Basic authentication.
type BasicAuth struct {
	// Users, in the order of their names.
	Users []User `json:"users"`
}

// User of BasicAuth.
type User struct {
	Name     string           `json:"name"`
	Password secret.Sensitive `json:"password"`
}

// Configured tells whether there is any verifier.
func (w *Webhooks) Configured() bool {
	return w != nil &&
		(w.Signature != nil || w.Standard != nil || w.Token != nil || w.Basic != nil || len(w.AllowedCIDRs) > 0)
}

// standardPrefix marks a secret of Standard Webhooks.
const standardPrefix = "whsec_"

// DecodeStandardSecret decodes a secret as Standard Webhooks writes it: "whsec_" and the key in base64. Its errors quote nothing.
func DecodeStandardSecret(s string) (secret.Sensitive, error) {
	encoded, ok := strings.CutPrefix(s, standardPrefix)
	if !ok {
		return "", errors.New("does not begin with whsec_")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return "", errors.New("has no base64 behind whsec_")
	}
	return secret.Sensitive(key), nil
}

func (w *Webhooks) check() error {
	if w == nil {
		return nil
	}
	if !w.Configured() {
		return errors.New("the config has webhooks without a verifier")
	}
	if len(w.AllowedCIDRs) > maxCIDRs ||
		slices.ContainsFunc(w.AllowedCIDRs, func(p netip.Prefix) bool { return !p.IsValid() }) {
		return fmt.Errorf("the config's allowedCIDRs are more than %d, or one of them is invalid", maxCIDRs)
	}
	return errors.Join(w.Signature.check(), w.Standard.check(), w.Token.check(), w.Basic.check())
}

func (s *Signature) check() error {
	if s == nil {
		return nil
	}
	if !slices.Contains([]string{SchemeHMACSHA1, SchemeHMACSHA256}, s.Scheme) {
		return fmt.Errorf("the signature's scheme %q is not one that this caly verifies", s.Scheme)
	}
	if !slices.Contains([]string{"", EncodingAny, EncodingHex, EncodingBase64}, s.Encoding) {
		return fmt.Errorf("the signature's encoding %q is not one that this caly reads", s.Encoding)
	}
	timed := s.SignedContent == SignedTimestampAndBody
	if !timed && !slices.Contains([]string{"", SignedBody, SignedURLAndParameters}, s.SignedContent) {
		return fmt.Errorf("the signature's content %q is not one that this caly verifies", s.SignedContent)
	}
	if timed && (s.TimestampHeader == "" || s.Tolerance <= 0) {
		return errors.New("the signature's timestamp lacks its header or tolerance")
	}
	return checkSecrets("signing secret", s.Secrets)
}

func (s *StandardWebhooks) check() error {
	if s == nil {
		return nil
	}
	if s.Tolerance <= 0 {
		return errors.New("standardWebhooks lacks its tolerance")
	}
	return checkSecrets("Standard Webhooks secret", s.Secrets)
}

func (t *Token) check() error {
	if t == nil {
		return nil
	}
	return checkSecrets("token", t.Secrets)
}

func (b *BasicAuth) check() error {
	if b == nil {
		return nil
	}
	if len(b.Users) == 0 || len(b.Users) > MaxSecrets {
		return fmt.Errorf("basicAuth has %d users, and may have 1 to %d", len(b.Users), MaxSecrets)
	}
	for i, u := range b.Users {
		if u.Name == "" || len(u.Password) < MinPasswordLength {
			return fmt.Errorf(
				"user %d of basicAuth has no name, or a password shorter than %d bytes", i, MinPasswordLength,
			)
		}
	}
	return nil
}

func checkSecrets(what string, secrets []secret.Sensitive) error {
	if len(secrets) == 0 || len(secrets) > MaxSecrets {
		return fmt.Errorf("there are %d of %s, and may be 1 to %d", len(secrets), what, MaxSecrets)
	}
	for i, s := range secrets {
		if len(s) < MinSecretLength {
			return fmt.Errorf("%s %d is shorter than %d bytes", what, i, MinSecretLength)
		}
	}
	return nil
}
