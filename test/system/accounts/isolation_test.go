package accounts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// apiRoute is an operation of the served OpenAPI document.
type apiRoute struct {
	id, method, path, access string
	takesBody                bool
}

// roles returns the roles that the route is for; all for signed-in users.
func (r apiRoute) roles() []string {
	if r.access == "signed in" {
		return []string{store.RoleAdmin, store.RoleAgent, store.RoleViewer}
	}
	return strings.Split(r.access, ", ")
}

func (p *platform) routes(t *testing.T) (all []apiRoute) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string          `json:"operationId"`
			Access      string          `json:"x-caly-access"`
			RequestBody json.RawMessage `json:"requestBody"`
		} `json:"paths"`
	}
	p.do(t, request{method: "GET", path: "/openapi.json", tenant: "-"}).want(t, 200).into(t, &doc)
	for path, item := range doc.Paths {
		for method, op := range item {
			all = append(all, apiRoute{op.OperationID, strings.ToUpper(method), path, op.Access, op.RequestBody != nil})
		}
	}
	slices.SortFunc(all, func(a, b apiRoute) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return all
}

// call is how a route is called with what is of one tenant.
type call struct {
	params  map[string]string // of the path
	queries []string          // each in turn
	body    any
	// own is the status for the tenant itself; 0: 200. other is the status where the token, or the tenant that is named, is another one.
	own, other int
	// ends says that the tokens are no longer valid afterwards.
	ends bool
}

// calls are the routes that are called with something. One that takes parameters or a body and is not here fails the walk.
var calls = map[string]func(o *property) call{
	"register": func(o *property) call {
		return call{body: fields{"email": o.waiting, "password": thirdPassword}, own: 202, other: 202}
	},
	"verifyEmail": func(o *property) call {
		return call{body: fields{"email": o.waiting, "code": o.waitingCode}, other: 400}
	},
	"resendCode":     func(o *property) call { return call{body: fields{"email": o.waiting}, own: 202, other: 202} },
	"forgotPassword": func(o *property) call { return call{body: fields{"email": o.forgetful}, own: 202, other: 202} },
	"login": func(o *property) call {
		return call{body: fields{"email": o.forgetful, "password": firstPassword}, other: 401}
	},
	"refresh": func(o *property) call { return call{body: fields{"refreshToken": o.owner.RefreshToken}, other: 401} },
	"resetPassword": func(o *property) call {
		return call{body: fields{"token": o.resetToken, "password": thirdPassword}, own: 204, other: 400}
	},
	"changePassword": func(*property) call {
		return call{
			body:  fields{"currentPassword": secondPassword, "newPassword": thirdPassword},
			own:   400,
			other: 400,
		} // not the current one
	},
	"logout":    func(*property) call { return call{own: 204, other: 204, ends: true} },
	"logoutAll": func(*property) call { return call{own: 204, other: 204, ends: true} },
	"revokeSession": func(o *property) call {
		return call{
			params: fill(o.ownersSession),
			own:    204,
			other:  404,
			ends:   true,
		}
	},
	"listCalls": func(o *property) call {
		return call{queries: []string{"", "?from=%2B918047491899", "?cursor=" + o.cursors["/api/calls"]}, other: 200}
	},
	"getCall": func(o *property) call { return call{params: fill(o.callSID), other: 404} },
	"listRecordings": func(o *property) call {
		return call{
			queries: []string{"", "?callSid=" + o.callSID, "?cursor=" + o.cursors["/api/recordings"]},
			other:   200,
		}
	},
	"getRecording":      func(o *property) call { return call{params: fill(o.keptOne), other: 404} },
	"downloadRecording": func(o *property) call { return call{params: fill(o.keptOne), other: 404} },
	"listStreams": func(o *property) call {
		return call{
			queries: []string{"", "?live=true&callSid=" + o.callSID, "?cursor=" + o.cursors["/api/streams"]},
			other:   200,
		}
	},
	"getStream":    func(o *property) call { return call{params: fill(o.stream), other: 404} },
	"closeStream":  func(o *property) call { return call{params: fill(o.stream), own: 202, other: 404} },
	"closeStreams": func(*property) call { return call{own: 202, other: 202} }, // one's own
	"listAudit": func(o *property) call {
		return call{
			queries: []string{"", "?actor=" + o.staff[store.RoleAdmin].User.ID, "?cursor=" + o.cursors["/api/audit"]},
			other:   200,
		}
	},
	"listUsers": func(o *property) call {
		return call{queries: []string{"", "?cursor=" + o.cursors["/api/users"]}, other: 200}
	},
	// The email has an account in the one tenant and none in the other, so that an account is made there: another one.
	"inviteUser": func(o *property) call {
		return call{
			body:  fields{"email": o.staff[store.RoleViewer].email, "role": store.RoleViewer},
			own:   409,
			other: 201,
		}
	},
	"revokeUserSessions": func(o *property) call {
		return call{
			params: fill(o.staff[store.RoleViewer].User.ID),
			other:  404,
		}
	},
	"changeUser": func(o *property) call {
		return call{params: fill(o.staff[store.RoleViewer].User.ID), body: fields{"disabled": true}, other: 404}
	},
}

// fill gives a path's only parameter, whatever its name.
func fill(id string) map[string]string { return map[string]string{"": id} }

// of makes the requests of a route with what a tenant has, or nothing where nobody has said how.
func (r apiRoute) of(t *testing.T, o *property) (qs []request, c call) {
	t.Helper()
	how := calls[r.id]
	if how == nil {
		if r.takesBody || strings.Contains(r.path, "{") {
			t.Fatalf(
				"%s %s (%s) takes parameters: say in calls how it is called with those of another tenant",
				r.method,
				r.path,
				r.id,
			)
		}
		how = func(*property) call { return call{other: 200} }
	}
	c = how(o)
	path := r.path
	if i := strings.IndexByte(path, '{'); i >= 0 {
		j := strings.IndexByte(path, '}')
		path = path[:i] + c.params[""] + path[j+1:]
	}
	if strings.Contains(path, "{") {
		t.Fatalf("%s has several parameters: the walk fills one", r.path)
	}
	for _, query := range append(c.queries, "")[:max(len(c.queries), 1)] {
		qs = append(qs, request{method: r.method, path: path + query, body: c.body, tenant: "-"})
	}
	return qs, c
}

// TestIsolation walks every route with two tenants' tokens and ids crossed: nothing of the one tenant is ever told to the other's people,
// or changed by them.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s3 := s3test.New(t)
	buckets := storage(t, s3)
	platform := newPlatform(t, setup{args: wideLimits(), tenant: buckets})
	has := map[string]*property{}
	for _, tenant := range []string{acme, globex} {
		has[tenant] = platform.endow(t, s3, tenant, buckets)
	}
	routes := platform.routes(t)
	for id := range calls {
		if !slices.ContainsFunc(routes, func(r apiRoute) bool { return r.id == id }) {
			t.Errorf("there is no route %s (any more)", id)
		}
	}
	for attacker, victim := range map[string]string{acme: globex, globex: acme} {
		platform.cross(t, routes, has[attacker], has[victim])
	}
	platform.testOwn(t, routes, has)
}

// cross walks the routes, and holds what the victim has to what it had.
func (p *platform) cross(t *testing.T, routes []apiRoute, attacker, victim *property) {
	t.Helper()
	p.settle(t)
	const done = "SELECT count(*) FROM audit_log WHERE tenant = $1 AND outcome = 'success'"
	before := p.rows(t, victim.tenant)
	audited := p.count(t, done, victim.tenant)
	for _, r := range routes {
		t.Run(fmt.Sprintf("%s of %s by %s", r.id, victim.domain, attacker.domain), func(t *testing.T) {
			(&walker{t, p, r, attacker, victim}).walk()
		})
	}
	if d := gocmp.Diff(before, p.rows(t, victim.tenant)); d != "" {
		t.Errorf("what %s has was changed by %s's people (-before +after):\n%s", victim.tenant, attacker.tenant, d)
	}
	if n := p.count(t, done, victim.tenant); n != audited {
		t.Errorf("the audit log of %s tells of %d more things that were done", victim.tenant, n-audited)
	}
}

// settle waits until all mail is sent.
func (p *platform) settle(t *testing.T) {
	t.Helper()
	eventually.Holds(t, "all mail is sent", func() bool {
		return p.count(t, "SELECT count(*) FROM mail_outbox WHERE state IN ('pending', 'sending')") == 0
	})
}

// walker tries one route.
type walker struct {
	t                *testing.T
	p                *platform
	r                apiRoute
	attacker, victim *property
}

func (w *walker) walk() {
	if w.r.access == "public" {
		w.publicWithStolen()
		return
	}
	w.strangers()
	w.roles()
	w.naming()
	w.ids()
}

// check holds an answer to a status, and looks for what is the victim's.
func (w *walker) check(what string, a answer, want ...int) {
	w.t.Helper()
	if !slices.Contains(want, a.status) {
		w.t.Errorf("%s: answered %d, want %v: %s", what, a.status, want, a.body)
	}
	for _, mark := range w.victim.marks() {
		if strings.Contains(string(a.body), mark) {
			w.t.Errorf("%s: the answer tells of %q: %s", what, mark, a.body)
		}
	}
}

// publicWithStolen uses what is the victim's at the attacker's tenant.
func (w *walker) publicWithStolen() {
	w.t.Helper()
	qs, call := w.r.of(w.t, w.victim)
	for _, q := range qs {
		q.tenant = w.attacker.tenant
		w.check("with what is of the other tenant", w.p.do(w.t, q), call.other)
	}
	w.forget()
}

// forget the accounts that the victim's emails have now at the attacker's tenant: they are the attacker's to see.
func (w *walker) forget() {
	w.t.Helper()
	w.p.exec(w.t, "DELETE FROM users WHERE tenant = $1 AND email LIKE '%@' || $2", w.attacker.tenant, w.victim.domain)
}

// strangers have no token, or none that is one.
func (w *walker) strangers() {
	w.t.Helper()
	qs, _ := w.r.of(w.t, w.victim)
	request := qs[0]
	w.check("without a token", w.p.do(w.t, request), http.StatusUnauthorized)
	request.tenant = w.victim.tenant
	w.check("without a token, to the tenant by name", w.p.do(w.t, request), http.StatusUnauthorized)
	request.bearer = w.victim.owner.RefreshToken
	w.check("with a refresh token", w.p.do(w.t, request), http.StatusUnauthorized)
}

// roles without the right are refused.
func (w *walker) roles() {
	w.t.Helper()
	qs, _ := w.r.of(w.t, w.attacker)
	for role, somebody := range w.attacker.staff {
		if !slices.Contains(w.r.roles(), role) {
			qs[0].bearer = somebody.AccessToken
			w.check("as "+role, w.p.do(w.t, qs[0]), http.StatusForbidden)
		}
	}
}

// naming the other tenant with one's own token is refused, whichever way it is named.
func (w *walker) naming() {
	w.t.Helper()
	qs, _ := w.r.of(w.t, w.victim)
	request := qs[0]
	request.bearer = w.attacker.staff[store.RoleAdmin].AccessToken
	byPath := request
	both := request
	byHeader := request
	byHeader.tenant = w.victim.tenant
	byPath.path = "/t/" + w.victim.tenant + request.path
	both.path = byPath.path
	both.tenant = w.attacker.tenant
	w.check("the other tenant by header", w.p.do(w.t, byHeader), http.StatusUnauthorized)
	w.check("the other tenant by path", w.p.do(w.t, byPath), http.StatusUnauthorized)
	w.check("the one by path and the other by header", w.p.do(w.t, both), http.StatusBadRequest)
}

// ids of the other tenant, with one's own token: as if they were not there.
func (w *walker) ids() {
	w.t.Helper()
	qs, call := w.r.of(w.t, w.victim)
	admin := w.attacker.staff[store.RoleAdmin]
	for _, q := range qs {
		q.bearer = admin.AccessToken
		answer := w.p.do(w.t, q)
		if w.r.id == "inviteUser" { // its answer repeats the email that was asked for
			answer.body = []byte(strings.ReplaceAll(string(answer.body), w.victim.staff[store.RoleViewer].email, ""))
		}
		w.check("ids of the other tenant in "+q.path, answer, call.other)
		w.forget()
	}
	if call.ends {
		admin.tokens = w.p.login(w.t, admin.tenant, admin.email, admin.password)
		w.attacker.staff[store.RoleAdmin] = admin
	}
}

// testOwn verifies that each tenant's own people can use every route. Without this, the isolation test would prove
// nothing.
func (p *platform) testOwn(t *testing.T, routes []apiRoute, has map[string]*property) {
	t.Helper()
	last := func(r apiRoute) int { // what ends the tokens, or changes what others need
		return slices.Index(
			[]string{"register", "resendCode", "forgotPassword", "revokeSession", "changeUser", "logout", "logoutAll"},
			r.id,
		)
	}
	slices.SortStableFunc(routes, func(a, b apiRoute) int { return last(a) - last(b) })
	for tenant := range maps.Keys(has) {
		o := has[tenant]
		for _, r := range routes {
			qs, call := r.of(t, o)
			for _, q := range qs {
				if q.tenant = tenant; r.access != "public" {
					q.bearer = o.owner.AccessToken
				}
				answer := p.do(t, q)
				if want := cmp.Or(call.own, 200); answer.status != want {
					t.Errorf("%s of %s's own: answered %d, want %d: %s", r.id, tenant, answer.status, want, answer.body)
				}
				if r.id == "downloadRecording" {
					p.testDownload(t, answer, o)
				}
			}
			if call.ends {
				o.owner.tokens = p.login(t, tenant, o.owner.email, o.owner.password)
			}
		}
	}
}

// testDownload follows the link.
func (p *platform) testDownload(t *testing.T, a answer, o *property) {
	t.Helper()
	link, _ := jsonAt(a.body, "url").(string)
	if status, body := calytest.Fetch(link); status != 200 || string(body) != o.object {
		t.Errorf("the link of %s's recording gives %d %q, want %q", o.tenant, status, body, o.object)
	}
}
