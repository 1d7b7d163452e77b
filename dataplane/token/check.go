package token

import (
	"crypto/sha256"
	"errors"
	"time"
	"unsafe"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Check returns what a token that is good now says. The error is an *Error where the token is at fault, and ErrNotReady where this pod
// cannot tell yet. What was once checked costs a digest and a look from then on.
func (s *Service) Check(raw string) (*Claims, error) {
	claims, err := s.check(raw)
	s.checks.count(err)
	return claims, err
}

func (s *Service) check(raw string) (*Claims, error) {
	if raw == "" || len(raw) > maxToken {
		return nil, &Error{reasonMalformed}
	}
	set := s.keySet()
	if set == nil {
		return nil, ErrNotReady
	}
	now := s.o.Now()
	digest := digestOf(raw)
	entry := s.cache.get(&digest)
	known := entry != nil && entry.ring == set.ring
	if !known {
		var err error
		if entry, err = s.verify(raw, set, now); err != nil {
			return nil, err
		}
	}
	if err := s.stillGood(entry, now); err != nil {
		if known {
			s.cache.drop(&digest)
		}
		return nil, err
	}
	if !known {
		s.cache.put(&digest, entry, now)
	}
	return &entry.claims, nil
}

// digestOf does not copy the token first, which would be a third of the cost of a check. Nothing writes to the bytes.
func digestOf(raw string) digest {
	return sha256.Sum256(
		unsafe.Slice(unsafe.StringData(raw), len(raw)), //nolint:gosec // read only, and no longer than this call
	)
}

// stillGood judges what changes with time: the token's end, its key's, and what was revoked since it was judged last.
func (s *Service) stillGood(e *entry, now time.Time) error {
	if !now.Before(e.claims.ExpiresAt) {
		return &Error{reasonExpired}
	}
	if !now.Before(e.until) {
		return &Error{reasonUnknownKey}
	}
	revocations := s.o.Revocations
	if revocations == nil {
		return nil
	}
	// Read before the sets: what changes between is then seen at the next check, never missed.
	epoch := revocations.epoch.Load()
	if e.epoch.Load() == epoch {
		return nil
	}
	if err := revocations.judge(&e.claims); err != nil {
		return err
	}
	e.epoch.Store(epoch)
	return nil
}

// verify reads a token and holds it against all that does not change while the ring stays the same.
func (s *Service) verify(raw string, set *keySet, now time.Time) (*entry, error) {
	kid, err := readHeader(raw)
	if err != nil {
		return nil, err
	}
	k, ok := set.keys[kid]
	if !ok || !k.verifies(now) {
		return nil, &Error{reasonUnknownKey}
	}
	body, err := verifySignature(raw, k)
	if err != nil {
		return nil, err
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, &Error{reasonClaims}
	}
	c, err := s.claims(&p, now)
	if err != nil {
		return nil, err
	}
	e := &entry{claims: *c, ring: set.ring, until: c.ExpiresAt}
	if !k.until.IsZero() && k.until.Before(e.until) {
		e.until = k.until
	}
	return e, nil
}

// verifySignature returns the payload. The algorithm is the key's: what the header says was compared with it, and is again.
func verifySignature(raw string, k key) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.EdDSA})
	var other *jose.ErrUnexpectedSignatureAlgorithm
	if errors.As(err, &other) {
		return nil, &Error{reasonAlgorithm}
	}
	if err != nil {
		return nil, &Error{reasonMalformed}
	}
	body, err := signed.Verify(k.public)
	if err != nil {
		return nil, &Error{reasonSignature}
	}
	return body, nil
}

// claims judges a payload that a key of ours signed.
func (s *Service) claims(p *payload, now time.Time) (*Claims, error) {
	issued, ok := parseSeconds(p.IssuedAt)
	if !ok || p.Expires < 0 || p.Expires > maxSeconds || p.NotBefore < 0 || p.NotBefore > maxSeconds {
		return nil, &Error{reasonClaims}
	}
	c := &Claims{
		Tenant:    p.Tenant,
		TenantUID: p.TenantUID,
		UserID:    p.UserID,
		SessionID: p.SessionID,
		Role:      p.Role,
		ID:        p.ID,
		IssuedAt:  issued,
		ExpiresAt: time.Unix(p.Expires, 0),
	}
	latest := now.Add(Skew)
	switch {
	case p.Issuer != s.o.Issuer:
		return nil, &Error{reasonIssuer}
	case p.Audience != s.o.Audience:
		return nil, &Error{reasonAudience}
	case c.check() != nil:
		return nil, &Error{reasonClaims}
	case issued.After(latest) || time.Unix(p.NotBefore, 0).After(latest):
		return nil, &Error{reasonNotYetValid}
	}
	return c, nil
}
