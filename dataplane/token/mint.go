package token

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // matches names exactly and refuses a name that is there twice
)

// maxToken bounds a token, in bytes. Mint stays far below it.
const maxToken = 4096

// payload is a token's claims as they are written. A token may hold more than these: a newer release's, say.
type payload struct {
	Issuer    string  `json:"iss"`
	Audience  string  `json:"aud"`
	UserID    string  `json:"sub"`
	Expires   int64   `json:"exp"`
	IssuedAt  seconds `json:"iat"` // with a fraction, which RFC 7519 allows: a login may follow a revocation within the second
	NotBefore int64   `json:"nbf"`
	ID        string  `json:"jti"`
	SessionID string  `json:"sid"`
	Tenant    string  `json:"tenant"`
	TenantUID string  `json:"tuid"`
	Role      string  `json:"role"`
}

// Mint returns a signed token, or ErrNotReady without a key.
func (s *Service) Mint(c Claims) (string, error) {
	now := s.o.Now()
	set := s.keySet()
	if set == nil {
		return "", ErrNotReady
	}
	signing, _ := set.ring.Signing(now)
	k, ok := set.keys[signing.ID]
	if !ok {
		return "", ErrNotReady
	}
	if c.IssuedAt.IsZero() {
		c.IssuedAt = now
	}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if err := c.check(); err != nil {
		return "", fmt.Errorf("mint an access token: %w", err)
	}
	body, err := json.Marshal(s.payload(c))
	if err != nil {
		return "", fmt.Errorf("mint an access token: %w", err)
	}
	signed, err := k.signer.Sign(body)
	if err != nil {
		return "", fmt.Errorf("sign an access token: %w", err)
	}
	raw, err := signed.CompactSerialize()
	if err == nil && len(raw) > maxToken {
		err = fmt.Errorf("mint an access token: it has %d bytes and may have %d", len(raw), maxToken)
	}
	return raw, err
}

// check holds what every token's claims must, minted or read.
func (c *Claims) check() error {
	for _, v := range []string{c.Tenant, c.TenantUID, c.UserID, c.SessionID, c.Role, c.ID} {
		if v == "" {
			return errors.New("a claim is missing")
		}
	}
	life := c.ExpiresAt.Sub(c.IssuedAt)
	if life <= 0 || life > MaxLifetime {
		return fmt.Errorf("its life of %s is not between 0 and %s", life, MaxLifetime)
	}
	return nil
}

func (s *Service) payload(c Claims) payload {
	return payload{
		Issuer:    s.o.Issuer,
		Audience:  s.o.Audience,
		UserID:    c.UserID,
		Expires:   c.ExpiresAt.Unix(),
		IssuedAt:  formatSeconds(c.IssuedAt),
		NotBefore: c.IssuedAt.Unix(),
		ID:        c.ID,
		SessionID: c.SessionID,
		Tenant:    c.Tenant,
		TenantUID: c.TenantUID,
		Role:      c.Role,
	}
}

// seconds is a time as JSON has it, a number. A float would lose digits, and the decoder's own kind of number may be text, too.
type seconds string

// MarshalJSON writes it as it is.
func (s seconds) MarshalJSON() ([]byte, error) { return []byte(s), nil }

// UnmarshalJSON takes it as it is.
func (s *seconds) UnmarshalJSON(b []byte) error {
	*s = seconds(b)
	return nil
}

// formatSeconds writes a time with six decimals.
func formatSeconds(t time.Time) seconds {
	return seconds(fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000))
}

// parseSeconds reads whole seconds, with up to six decimals behind them.
func parseSeconds(s seconds) (time.Time, bool) {
	whole, part, _ := strings.Cut(string(s), ".")
	sec, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || sec > maxSeconds || len(part) > 6 {
		return time.Time{}, false
	}
	micros, err := strconv.ParseUint((part + "000000")[:6], 10, 32)
	return time.Unix(int64(sec), int64(micros)*1000), err == nil
}

// maxSeconds is as late as a time may be.
const maxSeconds = math.MaxInt32 * 4
