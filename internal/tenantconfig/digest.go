package tenantconfig

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/caly-dev/caly/internal/secret"
)

// digestRounds makes a guess at a password, which people may have chosen, cost some 20 ms.
const digestRounds = 100_000

// Digest identifies a config without telling a secret of it: 32 hex digits, equal for equal configs. Secrets go in as
// their own digests under a fixed label. A signing secret or token has at least 16 bytes, too many to guess from it;
// passwords and the keys of a private store may be shorter, and go in all at once, and slowly.
func (t Tenant) Digest() string {
	t.Webhooks = t.Webhooks.digested(t.ID)
	t.Storage = t.Storage.digested(t.ID)
	t.Audio = t.Audio.digested(t.ID)
	data, err := json.Marshal(t)
	if err != nil {
		return "" // unreachable: the type holds nothing that cannot be encoded
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// digested is a copy whose secrets are replaced by their digests.
func (w *Webhooks) digested(id string) *Webhooks {
	if w == nil {
		return nil
	}
	clone := *w
	if w.Signature != nil {
		signature := *w.Signature
		signature.Secrets = digests(id, signature.Secrets)
		clone.Signature = &signature
	}
	if w.Standard != nil {
		s := *w.Standard
		s.Secrets = digests(id, s.Secrets)
		clone.Standard = &s
	}
	if w.Token != nil {
		t := *w.Token
		t.Secrets = digests(id, t.Secrets)
		clone.Token = &t
	}
	clone.Basic = w.Basic.digested(id)
	return &clone
}

func digests(id string, secrets []secret.Sensitive) []secret.Sensitive {
	out := make([]secret.Sensitive, 0, len(secrets))
	for _, s := range secrets {
		sum := sha256.Sum256([]byte("caly digest\x00" + id + "\x00" + s.Reveal()))
		out = append(out, secret.Sensitive(hex.EncodeToString(sum[:])))
	}
	return out
}

// digested has the names as they are and, with the first of them, one digest of all passwords.
func (b *BasicAuth) digested(id string) *BasicAuth {
	if b == nil || len(b.Users) == 0 {
		return b
	}
	clone := &BasicAuth{Users: make([]User, len(b.Users))}
	passwords := make([]secret.Sensitive, len(b.Users))
	for i, u := range b.Users {
		clone.Users[i].Name, passwords[i] = u.Name, u.Password
	}
	clone.Users[0].Password = slowDigest("caly digest\x00"+id, passwords...)
	return clone
}

// digested has one digest of all credentials in place of the second.
func (s *Storage) digested(id string) *Storage {
	if s == nil {
		return nil
	}
	clone := *s
	clone.AccessKeyID = ""
	clone.SessionToken = ""
	if s.Temporary != nil { // a renewal changes nothing for those that compare digests
		clone.SecretAccessKey = ""
		clone.Temporary = &Temporary{Identity: s.Temporary.Identity}
		return &clone
	}
	clone.SecretAccessKey = slowDigest("caly digest of storage\x00"+id, s.secrets()...)
	return &clone
}

func slowDigest(label string, secrets ...secret.Sensitive) secret.Sensitive {
	var all strings.Builder
	for _, s := range secrets {
		sum := sha256.Sum256([]byte(s))
		all.Write(sum[:]) // of one length each, so that no two lists of secrets read the same
	}
	key, err := pbkdf2.Key(sha256.New, all.String(), []byte(label), digestRounds, sha256.Size)
	if err != nil {
		return "" // unreachable: the length is one that PBKDF2 makes
	}
	return secret.Sensitive(hex.EncodeToString(key))
}
