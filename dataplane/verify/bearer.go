package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// verifyToken looks for a token in the query, or at the end of the path. A request that carries two different ones is
// refused: it was not made by who was given one.
func verifyToken(cfg *tenantconfig.Token, r *Request) finding {
	name := or(cfg.Query, tenantconfig.DefaultTokenQuery)
	token := r.PathToken
	found := r.PathToken != ""
	twice := false
	for n, value := range queryPairs(rawQuery(r)) {
		if n != name || value == "" {
			continue
		}
		twice = twice || (found && value != token)
		token = value
		found = true
	}
	match := matchesToken(cfg.Secrets, token)
	switch {
	case !found:
		return lacks(ReasonMissingToken)
	case twice || !match:
		return refuse(ReasonWrongToken)
	}
	return bearer()
}

// matchesToken compares digests, which are of one length whatever the tokens' are, with every secret.
func matchesToken(secrets []secret.Sensitive, token string) bool {
	got := sha256.Sum256([]byte(token))
	match := 0
	for _, s := range secrets {
		want := sha256.Sum256([]byte(s.Reveal()))
		match |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return match == 1
}

// verifyBasic looks for a user's name and password. Both are compared with every user's, by digests of one length.
func verifyBasic(cfg *tenantconfig.BasicAuth, r *Request) finding {
	header, missing := only(r.Header, "Authorization")
	name, password, ok := (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
	gotName := sha256.Sum256([]byte(name))
	gotPassword := sha256.Sum256([]byte(password))
	match := 0
	for _, u := range cfg.Users {
		wantName := sha256.Sum256([]byte(u.Name))
		wantPassword := sha256.Sum256([]byte(u.Password.Reveal()))
		sameName := subtle.ConstantTimeCompare(gotName[:], wantName[:])
		samePassword := subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:])
		match |= sameName & samePassword
	}
	switch {
	case missing:
		return lacks(ReasonMissingBasicAuth)
	case !ok || match != 1:
		return refuse(ReasonWrongBasicAuth)
	}
	return bearer()
}

// queryPairs are the names and values of a raw query, unescaped. A token holds no blank, so "+", which a form would write for
// one, stands for itself: many a token is base64. What cannot be unescaped stays as it is.
func queryPairs(raw string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for part := range strings.SplitSeq(raw, "&") {
			name, value, _ := strings.Cut(part, "=")
			if !yield(unescape(name), unescape(value)) {
				return
			}
		}
	}
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
