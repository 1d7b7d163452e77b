package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/testkit/admintest"
)

// TestPages reads lists of several Tenants by small pages, and tries cursors that nobody got.
func TestPages(t *testing.T) {
	r := admintest.New(t)
	var want []string
	for _, name := range []string{"a", "b", "c"} {
		tenant := r.NewTenant(t, r.Namespace, name)
		for call := range 3 {
			r.Enqueue(t, tenant, fmt.Sprint("c", call), fmt.Sprintf("https://recordings.exotel.com/%d.mp3", call))
			want = append(want, fmt.Sprint(tenant, " c", 2-call))
		}
	}
	theirs := r.NewTenant(t, r.NewNamespace(t), "a")
	r.Failed(t, theirs, "theirs", "AccessDenied")
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "viewer"))
	c := r.As(t, r.User(t, "viewer"))
	path := adminapi.Path(r.Namespace, adminapi.ResourceRecordings)
	for _, limit := range []int{1, 2, 3, 4, 200} {
		var got []string
		query := url.Values{"limit": {fmt.Sprint(limit)}}
		for pages := 0; pages < 20; pages++ {
			var page adminapi.List[adminapi.Recording]
			if err := c.Get(t.Context(), path, query, &page); err != nil {
				t.Fatal(err)
			}
			if len(page.Items) > limit {
				t.Errorf("a page of %d has %d items", limit, len(page.Items))
			}
			for _, found := range page.Items {
				got = append(got, found.Tenant+" "+found.CallSID)
			}
			if page.Next == "" {
				break
			}
			query.Set("cursor", page.Next)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	all, more, err := client.All[adminapi.Recording](t.Context(), c, path, nil, 4)
	if err != nil || len(all) != 4 || !more {
		t.Errorf("four of nine: %d, more %t, %v", len(all), more, err)
	}
	forged := r.As(t, r.User(t, "root", "system:masters"))
	var page adminapi.List[adminapi.Recording]
	everywhere := adminapi.Path("", adminapi.ResourceRecordings)
	if err := forged.Get(t.Context(), everywhere, url.Values{"limit": {"1"}}, &page); err != nil || page.Next == "" {
		t.Fatalf("%+v, %v", page, err)
	}
	for name, cursor := range map[string]string{
		"of the whole cluster": page.Next,
		"of no list":           "bm90aGluZw",
		"garbage":              "%%%",
		"too long":             strings.Repeat("a", 4096),
	} {
		var stolen adminapi.List[adminapi.Recording]
		err := c.Get(t.Context(), path, url.Values{"cursor": {cursor}}, &stolen)
		if status := code(t, err); status != http.StatusOK && status != http.StatusBadRequest {
			t.Errorf("a cursor %s: %v", name, err)
		}
		if slices.ContainsFunc(stolen.Items, func(found adminapi.Recording) bool { return found.Tenant == theirs }) {
			t.Errorf("a cursor %s shows another namespace's recordings", name)
		}
	}
}

// TestBounds sends more than the admin API takes.
func TestBounds(t *testing.T) {
	r := admintest.New(t)
	r.NewTenant(t, r.Namespace, "support")
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	c := r.As(t, r.User(t, "alice"))
	path := adminapi.Path(r.Namespace, adminapi.ResourceRecordings, adminapi.RetryPath)
	many := make([]string, adminapi.MaxPage+1)
	for name, tc := range map[string]struct {
		body any
		want int
	}{
		"too many ids":     {adminapi.Retry{Tenant: "support", IDs: many}, http.StatusBadRequest},
		"no ids":           {adminapi.Retry{Tenant: "support"}, http.StatusBadRequest},
		"no Tenant":        {adminapi.Retry{IDs: []string{"a"}}, http.StatusBadRequest},
		"an unknown field": {map[string]any{"tenant": "support", "ids": []string{"a"}, "x": 1}, http.StatusBadRequest},
		"another type":     {[]int{1}, http.StatusBadRequest},
		"a large body": {
			adminapi.Retry{Tenant: strings.Repeat("x", 100_000), IDs: []string{"a"}},
			http.StatusRequestEntityTooLarge,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.Post(t.Context(), path, tc.body, new(adminapi.Done)); code(t, err) != tc.want {
				t.Errorf("%v, want status %d", err, tc.want)
			}
		})
	}
	if err := c.Get(t.Context(), "/v1/nonsense", nil, new(any)); code(t, err) != http.StatusNotFound ||
		!strings.Contains(err.Error(), "version v1.2.3") {
		t.Errorf("an unknown operation: %v", err)
	}
	rejected := 0
	for range 200 {
		err := c.Get(t.Context(), adminapi.VersionPath, nil, new(buildinfo.Info))
		if code(t, err) == http.StatusTooManyRequests {
			rejected++
		}
	}
	if rejected == 0 {
		t.Error("200 requests of one user at once are not too many")
	}
	if err := r.As(t, r.User(t, "bob")).Get(t.Context(), adminapi.VersionPath, nil, new(buildinfo.Info)); err != nil {
		t.Errorf("another user is rejected: %v", err)
	}
	flood := r.As(t, admintest.WithToken("topsecret"))
	rejected = 0
	for range 100 {
		err := flood.Get(t.Context(), adminapi.VersionPath, nil, new(buildinfo.Info))
		if code(t, err) == http.StatusTooManyRequests {
			rejected++
		}
	}
	if rejected == 0 {
		t.Error("100 wrong tokens at once are not too many")
	}
}

// TestPredecessor leaves out a Tenant whose rows belong to a deleted one of the same name.
func TestPredecessor(t *testing.T) {
	r := admintest.New(t)
	support := r.NewTenant(t, r.Namespace, "support")
	r.Failed(t, support, "c1", "AccessDenied")
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	c := r.As(t, r.User(t, "alice"))
	path := adminapi.Path(r.Namespace, adminapi.ResourceRecordings)
	list := func() int {
		var page adminapi.List[adminapi.Recording]
		if err := c.Get(t.Context(), path, nil, &page); err != nil {
			t.Fatal(err)
		}
		return len(page.Items)
	}
	if got := list(); got != 1 {
		t.Fatalf("%d recordings, want 1", got)
	}
	r.PG.Exec(t, "UPDATE tenants SET uid = 'another' WHERE tenant = $1", support)
	if got := list(); got != 0 {
		t.Errorf("%d recordings of a predecessor are listed", got)
	}
	err := c.Get(t.Context(), path, url.Values{"tenant": {"support"}}, new(adminapi.List[adminapi.Recording]))
	if code(t, err) != http.StatusConflict {
		t.Errorf("the Tenant by its name: %v", err)
	}
}

// TestClient rejects a kubeconfig whose password the operator could not verify.
func TestClient(t *testing.T) {
	if _, err := client.New(&rest.Config{Username: "alice", Password: "topsecret"}, nil); err == nil ||
		strings.Contains(err.Error(), "topsecret") {
		t.Errorf("a user name and a password: %v", err)
	}
}
