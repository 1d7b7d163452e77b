package s3test

import (
	"maps"
	"slices"
	"time"
)

// IssuedKey is a set of temporary credentials.
type IssuedKey struct {
	AccessKey, SecretKey, Token string
	// Expires is when the store accepts them no longer, by its own clock.
	Expires time.Time
}

// Issue makes the store accept temporary credentials.
func (s *Strict) Issue(k IssuedKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issued == nil {
		s.issued = map[string]IssuedKey{}
	}
	s.issued[k.AccessKey] = k
}

// Issued returns the temporary credentials that were issued, in their order.
func (s *Strict) Issued() []IssuedKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]IssuedKey, 0, len(s.issued))
	for _, name := range slices.Sorted(maps.Keys(s.issued)) {
		keys = append(keys, s.issued[name])
	}
	return keys
}

// Expire lets temporary credentials expire now.
func (s *Strict) Expire(accessKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.issued[accessKey]
	k.Expires = time.Time{}
	s.issued[accessKey] = k
}

// secretOf returns the secret of an access key. The texts are those of Amazon's list of error codes:
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (s *Strict) secretOf(accessKey, token string) (secret string, no *Refusal) {
	malformed := &Refusal{400, "InvalidToken", "The provided token is malformed or otherwise invalid.", ""}
	if k, ok := s.issued[accessKey]; ok {
		expired := !time.Now().Add(s.rules.Skew).Before(k.Expires)
		switch {
		case token == "", expired && s.rules.ForgetExpired:
			return "", unknownKey()
		case token != k.Token:
			return "", malformed
		case expired:
			return "", &Refusal{400, "ExpiredToken", "The provided token has expired.", ""}
		}
		return k.SecretKey, nil
	}
	if accessKey != s.AccessKey {
		return "", unknownKey()
	}
	if token != s.rules.Token {
		return "", malformed
	}
	return s.SecretKey, nil
}

func unknownKey() *Refusal {
	return &Refusal{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", ""}
}
