package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// verifyBasic looks for a user's name and password. Both are compared with every user's, by digests of one length.
func verifyBasic(cfg *tenantconfig.BasicAuth, r *Request) finding {
	header, missing := only(r.Header, "Authorization")
	name, password, ok := (&http.Request{Header: http.Header{"Authorization": {header}}}).BasicAuth()
	gotName, gotPassword := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
	match := 0
	for _, u := range cfg.Users {
		wantName, wantPassword := sha256.Sum256([]byte(u.Name)), sha256.Sum256([]byte(u.Password.Reveal()))
		match |= subtle.ConstantTimeCompare(gotName[:], wantName[:]) & subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:])
	}
	switch {
	case missing:
		return lacks(ReasonMissingBasicAuth)
	case !ok || match != 1:
		return refuse(ReasonWrongBasicAuth)
	}
	return bearer()
}
