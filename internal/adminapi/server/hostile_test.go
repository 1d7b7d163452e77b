package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/testkit/admintest"
)

// TestUnstorableText checks that text which PostgreSQL cannot store is the caller's error, and no line of the log.
func TestUnstorableText(t *testing.T) {
	r := admintest.New(t)
	tenant := r.NewTenant(t, r.Namespace, "support")
	r.Failed(t, tenant, "c1", "AccessDenied")
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	c := r.As(t, r.User(t, "alice"))
	namespaced := func(elements ...string) string { return adminapi.Path(r.Namespace, elements[0], elements[1:]...) }
	for _, text := range []string{"\x00", "a\xff"} {
		var answer any
		for path, names := range map[string][]string{
			namespaced("recordings"):       {"call", "code", "tenant", "cursor"},
			namespaced("recordings", text): {"tenant"},
			namespaced("streams"):          {"call"},
			namespaced("streams", text):    {"tenant"},
			namespaced("events"):           {"call", "reason", "which"},
			namespaced("events", text):     {"tenant"},
		} {
			for _, name := range names {
				err := c.Get(t.Context(), path, url.Values{name: {text}}, &answer)
				if status := code(t, err); status < 400 || status >= 500 {
					t.Errorf("%q with %s=%q: %v", path, name, text, err)
				}
			}
			err := c.Get(t.Context(), path, nil, &answer)
			if status := code(t, err); status >= 500 {
				t.Errorf("%q: %v", path, err)
			}
		}
		for path, body := range map[string]any{
			namespaced("recordings", "retry"): adminapi.Retry{Tenant: "support", IDs: []string{text}},
			namespaced("streams", "close"):    adminapi.Close{Tenant: "support", IDs: []string{text}},
		} {
			if status := code(t, c.Post(t.Context(), path, body, &answer)); status >= 500 {
				t.Errorf("%s of %q: status %d", path, text, status)
			}
		}
	}
	if strings.Contains(r.Logs.String(), "a request to the admin API failed") {
		t.Errorf("the log:\n%s", r.Logs)
	}
}

// TestOddHeaders checks that headers of impersonation count in every spelling.
func TestOddHeaders(t *testing.T) {
	r := admintest.New(t)
	r.NewTenant(t, r.Namespace, "support")
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "alice"))
	for _, header := range []http.Header{
		{"impersonate-user": {"root"}},
		{"IMPERSONATE-USER": {"root"}},
		{"impersonate-GROUP": {"system:masters"}},
		{"impersonate-extra-Scopes": {"x"}, "Impersonate-User": {"alice"}},
		{"impersonate-uid": {"1"}},
	} {
		config := rest.CopyConfig(r.User(t, "alice"))
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return withHeader{next, header} })
		var got adminapi.List[adminapi.Recording]
		err := r.As(t, config).Get(t.Context(), adminapi.Path(r.Namespace, "recordings"), nil, &got)
		if code(t, err) < 400 {
			t.Errorf("%v: ignored", header)
		}
	}
}
