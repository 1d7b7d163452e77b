package stream

import (
	"net/http"
	"strings"

	"github.com/caly-dev/caly/dataplane/problem"
)

// destination is what a path names.
type destination struct {
	tenantID string
	token    string
	url      bool   // the question for a stream's URL
	pattern  string // the path without what is particular to it
}

// urlPart is the last element but a token of the path that answers a stream's URL. It is too short to be a token.
const urlPart = "url"

// route parses the path by hand: a mux would redirect, and would answer differently for paths that are not a tenant's.
func route(r *http.Request) (destination, error) {
	path, ours := strings.CutPrefix(r.URL.Path, PathPrefix)
	to, ok := parsePath(strings.Split(path, "/"))
	switch {
	case !ours || !ok:
		return to, refuse(reasonPath, problem.New(problem.NotFound, "no such stream: the path is "+PathPrefix+
			"{namespace}/{tenant}, or .../url, and the token behind it if there is one"))
	case r.Method != http.MethodGet && (!to.url || r.Method != http.MethodPost):
		allowed := "GET"
		if to.url {
			allowed = "GET, POST"
		}
		return to, refuse(reasonMethod, problem.MethodNotAllowed("streams are asked for with "+allowed, allowed))
	case !to.url:
		return to, checkHandshake(r)
	}
	return to, nil
}

func parsePath(parts []string) (to destination, ok bool) {
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return to, false
	}
	to.tenantID = parts[0] + "/" + parts[1]
	to.pattern = PathPrefix + "{namespace}/{tenant}"
	parts = parts[2:]
	if len(parts) > 0 && parts[0] == urlPart {
		to.url = true
		to.pattern = to.pattern + "/" + urlPart
		parts = parts[1:]
	}
	if len(parts) == 1 {
		to.token = parts[0]
		to.pattern += "/{token}"
	}
	return to, len(parts) == 0 || (len(parts) == 1 && to.token != "")
}
