package stream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzRoute verifies that a path names one tenant or is rejected, and that its parts make the same path again. The
// pattern for the log has no part of the path.
func FuzzRoute(f *testing.F) {
	for _, path := range []string{"", "/", "/audio/exotel/", "/audio/exotel/a/b", "/audio/exotel/a/b/url",
		"/audio/exotel/a/b/url/" + token,
		"/audio/exotel/a/b/" + token, "/audio/exotel/a//b", "/audio/exotel/a/b/", "/audio/exotel/../a/b",
		"/audio/exotel/a/b/url/x/y", "/audio/exotel/a/b/\x00"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		req := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}}
		to, err := route(req)
		rest, ours := strings.CutPrefix(path, PathPrefix)
		if !ours || to.tenantID == "" {
			if err == nil {
				t.Fatalf("%q is a path", path)
			}
			return
		}
		namespace, name, _ := strings.Cut(to.tenantID, "/")
		if namespace == "" || name == "" || strings.Contains(name, "/") {
			t.Fatalf("%q names the tenant %q", path, to.tenantID)
		}
		back := to.tenantID
		if to.url {
			back += "/" + urlPart
		}
		if to.token != "" {
			back += "/" + to.token
		}
		if _, taken := parsePath(strings.Split(rest, "/")); taken &&
			(back != rest || to.pattern != PathPrefix+"{namespace}/{tenant}"+patternEnd(to)) {
			t.Errorf("%q was read as %+v", path, to)
		}
	})
}

func patternEnd(to destination) (end string) {
	if to.url {
		end = "/" + urlPart
	}
	if to.token != "" {
		end += "/{token}"
	}
	return end
}

// FuzzOneTimeToken verifies that a token returns the id of its call, and that no token with one changed character is
// accepted.
func FuzzOneTimeToken(f *testing.F) {
	key := []byte("the ring's")
	now := time.Unix(1_800_000_000, 0)
	for _, s := range []string{
		"", "call1", tokenPrefix, "\x00", strings.Repeat("ü", maxCallSID/2),
		mint([]byte("another"), "acme/support", "call1", now),
	} {
		f.Add(s, uint16(len(s)), byte('A'))
	}
	f.Fuzz(func(t *testing.T, s string, at uint16, with byte) {
		if got, fault := openToken(key, "acme/support", s, now); fault == "" || got != (oneTime{}) {
			t.Errorf("%q is a token: %+v", s, got)
		}
		if s == "" || len(s) > maxCallSID {
			return
		}
		token := mint(key, "acme/support", s, now)
		if got, fault := openToken(key, "acme/support", token, now); fault != "" || got.callSID != s {
			t.Errorf("the call %q comes back as %q, %s", s, got.callSID, fault)
		}
		changed := []byte(token)
		changed[int(at)%len(token)] = with
		if got, fault := openToken(key, "acme/support", string(changed), now); string(changed) != token && fault == "" {
			t.Errorf("%q is a token as %q is: %+v", changed, token, got)
		}
	})
}

// FuzzCallSID verifies that the call's id is always a value of the request.
func FuzzCallSID(f *testing.F) {
	for _, s := range []string{
		"", "CallSid=c", "call_sid=c", "CALLSID=c&CallSid=d", "CallSid=%zz", "callsid=\x00",
		"Call_S_id=1&;",
	} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		req := &http.Request{
			URL:    &url.URL{RawQuery: query},
			Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}},
		}
		sid := callSIDOf(req, []byte(body))
		if sid == "" {
			return
		}
		form, _ := url.ParseQuery(body)
		for _, values := range []url.Values{req.URL.Query(), form} {
			for _, list := range values {
				for _, v := range list {
					if v == sid {
						return
					}
				}
			}
		}
		t.Errorf("%q comes of neither %q nor %q (text: %t)", sid, query, body, utf8.ValidString(sid))
	})
}
