package account_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// stage is somebody signed in, with a reset token and a code on their way.
type stage struct {
	*rig
	tk          tokens
	other       string // id of another session
	reset, code string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	r, tk := signedIn(t)
	s := &stage{rig: r, tk: tk}
	r.login(t, jane, good)
	for _, item := range r.sessions(t, tk.AccessToken) {
		if !item.Current {
			s.other = item.ID
		}
	}
	r.post(t, "forgot-password", fields{"email": jane}).must(t, 202)
	s.reset = r.mail(t, jane, mail.ResetPassword).Data.Code.Reveal()
	r.post(t, "register", fields{"email": unverified, "password": good}).must(t, 202)
	s.code = r.mail(t, unverified, mail.VerifyEmail).Data.Code.Reveal()
	return s
}

// flows are requests that all succeed on a stage, each on its own.
var flows = map[string]func(s *stage) request{
	"register": func(*stage) request { return auth("register", fields{"email": unknown, "password": good}) },
	"verify-email": func(s *stage) request {
		return auth("verify-email", fields{
			"email": unverified,
			"code":  s.code,
		})
	},
	"forgot-password": func(*stage) request { return auth("forgot-password", fields{"email": jane}) },
	"login":           func(*stage) request { return auth("login", fields{"email": jane, "password": good}) },
	"reset-password": func(s *stage) request {
		return auth("reset-password", fields{
			"token":    s.reset,
			"password": better,
		})
	},
	"logout": func(s *stage) request { return request{path: "/api/auth/logout", bearer: s.tk.AccessToken} },
	"logout-all": func(s *stage) request {
		return request{
			path:   "/api/auth/logout-all",
			bearer: s.tk.AccessToken,
		}
	},
	"change-password": func(s *stage) request {
		return request{
			path:   "/api/auth/change-password",
			bearer: s.tk.AccessToken,
			body:   fields{"currentPassword": good, "newPassword": better},
		}
	},
	"revoke": func(s *stage) request {
		return request{method: http.MethodDelete, path: "/api/auth/sessions/" + s.other, bearer: s.tk.AccessToken}
	},
}

// silent flows write nothing into the audit log.
var silent = map[string]func(s *stage) request{
	"refresh":     func(s *stage) request { return auth("refresh", fields{"refreshToken": s.tk.RefreshToken}) },
	"resend-code": func(*stage) request { return auth("resend-code", fields{"email": unverified}) },
	"me": func(s *stage) request {
		return request{method: http.MethodGet, path: "/api/auth/me", bearer: s.tk.AccessToken}
	},
	"sessions": func(s *stage) request {
		return request{method: http.MethodGet, path: "/api/auth/sessions", bearer: s.tk.AccessToken}
	},
}

func auth(path string, body fields) request { return request{path: "/api/auth/" + path, body: body} }

// rows are all rows that a flow may change.
func (r *rig) rows(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range []string{
		"users", "email_codes", "login_sessions", "refresh_token_blacklist", "password_reset_tokens",
		"revocations", "mail_outbox", "audit_log",
	} {
		all[table] = r.text(t, `SELECT string_agg(t::text, E'\n' ORDER BY t::text) FROM `+table+` t`)
	}
	return all
}

// TestDatabaseGoesMidFlow verifies that a flow whose last statement fails is answered with a database error and changes
// no row. The same request succeeds afterwards.
func TestDatabaseGoesMidFlow(t *testing.T) {
	for name, flow := range flows {
		t.Run(name, func(t *testing.T) {
			stage := newStage(t)
			stage.db.Exec(
				t,
				`CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'terminating `+
					`connection' USING ERRCODE = '57P01'; END $$`,
			)
			stage.db.Exec(t, `CREATE TRIGGER gone BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION gone()`)
			before := stage.rows(t)
			answer := stage.do(t, flow(stage))
			answer.want(t, "without the database", http.StatusServiceUnavailable, "database")
			if answer.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if d := cmp.Diff(before, stage.rows(t)); d != "" {
				t.Errorf("rows changed (-before +after):\n%s", d)
			}
			stage.db.Exec(t, `DROP TRIGGER gone ON audit_log`)
			if answer := stage.do(t, flow(stage)); answer.Status >= 300 {
				t.Errorf("sent again: %d %s", answer.Status, answer.Body)
			}
		})
	}
}

// TestDatabaseIsAway verifies that every flow reports an unreachable database without details of it, and works after
// the database is back.
func TestDatabaseIsAway(t *testing.T) {
	s := newStage(t)
	s.db.Stop(t)
	for _, set := range []map[string]func(*stage) request{flows, silent} {
		for name, flow := range set {
			answer := s.do(t, flow(s))
			answer.want(t, name, http.StatusServiceUnavailable, "database")
			if strings.Contains(string(answer.Body), "PostgreSQL says") ||
				strings.Contains(string(answer.Body), "127.0.0.1") {
				t.Errorf("%s tells of the inside: %s", name, answer.Body)
			}
		}
	}
	s.db.Start(t)
	for name, flow := range silent {
		if answer := s.do(t, flow(s)); answer.Status >= 300 {
			t.Errorf("%s, with the database back: %d %s", name, answer.Status, answer.Body)
		}
	}
}

// TestNoKeysYet verifies that a pod without its keyring answers 503 and changes no row.
func TestNoKeysYet(t *testing.T) {
	stage := newStage(t)
	stage.addPod(t, func(o *account.Options) { o.Ring = func() *keyring.Ring { return nil } })
	before := stage.rows(t)
	for _, name := range []string{"register", "verify-email", "forgot-password", "login", "reset-password"} {
		request := flows[name](stage)
		request.pod = stage.pods[2]
		answer := stage.do(t, request)
		answer.want(t, name, http.StatusServiceUnavailable, "unavailable")
		if answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
	}
	request := silent["refresh"](stage)
	request.pod = stage.pods[2]
	stage.do(t, request).want(t, "refresh", http.StatusServiceUnavailable, "unavailable")
	if d := cmp.Diff(before, stage.rows(t)); d != "" {
		t.Errorf("rows changed (-before +after):\n%s", d)
	}
}

// TestTooManyHashes verifies that requests over the hasher's bound are refused. They do not count as wrong passwords.
func TestTooManyHashes(t *testing.T) {
	stage := newStage(t)
	slow := password.NewHasher(password.Options{
		Params: password.Params{Memory: 64 << 10, Time: 8, Threads: 1},
		Slots:  1,
		Queue:  1,
		Wait:   time.Millisecond,
	})
	stage.addPod(t, func(o *account.Options) { o.Hasher = slow })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 { // keep its slot taken
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = slow.Hash(ctx, good)
			}
		})
	}
	soon.Holds(t, "somebody waits", func() bool { return slow.Waiting() > 0 })
	for _, name := range []string{"login", "register", "reset-password", "change-password"} {
		request := flows[name](stage)
		request.pod = stage.pods[2]
		soon.Holds(t, name+" is refused", func() bool {
			answer := stage.do(t, request)
			return answer.Status == http.StatusServiceUnavailable && answer.Code() == "unavailable" &&
				answer.Header.Get("Retry-After") != ""
		})
	}
	cancel()
	wg.Wait()
	if got := stage.text(t, `SELECT count(*) FROM audit_log WHERE reason = 'wrong password'`); got != "0" {
		t.Errorf("%s wrong passwords in the audit log", got)
	}
}

// TestOnceUnderConcurrency verifies that a token, code or password that is valid once is accepted once by concurrent
// requests to two pods.
func TestOnceUnderConcurrency(t *testing.T) {
	for name, once := range map[string]func(s *stage, i int) request{
		"reset token": func(s *stage, i int) request {
			return auth("reset-password", fields{"token": s.reset, "password": fmt.Sprint(better, " ", i)})
		},
		"code": func(s *stage, _ int) request {
			return auth("verify-email", fields{"email": unverified, "code": s.code})
		},
		"current password": func(s *stage, i int) request {
			return request{
				path:   "/api/auth/change-password",
				bearer: s.tk.AccessToken,
				body:   fields{"currentPassword": good, "newPassword": fmt.Sprint(better, " ", i)},
			}
		},
		"session": func(s *stage, _ int) request {
			return request{method: http.MethodDelete, path: "/api/auth/sessions/" + s.other, bearer: s.tk.AccessToken}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			var mu sync.Mutex
			got := map[bool]int{}
			var wg sync.WaitGroup
			for i := range 12 {
				q := once(s, i)
				q.pod = s.pods[i%2]
				wg.Go(func() {
					answer := s.do(t, q)
					mu.Lock()
					defer mu.Unlock()
					got[answer.Status < 300]++
					if answer.Status >= 500 {
						t.Errorf("%d %s", answer.Status, answer.Body)
					}
				})
			}
			wg.Wait()
			if got[true] != 1 {
				t.Errorf("%d succeeded, want 1", got[true])
			}
		})
	}
}

// TestRegisterAtOnce verifies that concurrent registrations of one email make one account, and that all get the same
// answer.
func TestRegisterAtOnce(t *testing.T) {
	rig := newRig(t)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			request := auth("register", fields{"email": jane, "password": fmt.Sprint(good, " ", i)})
			request.pod = rig.pods[i%2]
			if answer := rig.do(t, request); answer.Status != http.StatusAccepted {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		})
	}
	wg.Wait()
	if got := rig.text(t, `SELECT count(*) FROM users`); got != "1" {
		t.Errorf("%s accounts", got)
	}
	// The last code that was written is the one that verifies, whichever mail it is in, with the password that was written with it.
	verified := 0
	for _, m := range rig.mails(t, jane) {
		for i := range 12 {
			q := fields{"email": jane, "code": m.Data.Code.Reveal(), "password": fmt.Sprint(good, " ", i)}
			if rig.post(t, "verify-email", q).Status == 200 {
				verified++
			}
			rig.db.Exec(t, `UPDATE email_codes SET attempts = 0`)
		}
	}
	if verified != 1 {
		t.Errorf("%d codes verified, want 1", verified)
	}
}

func TestLimits(t *testing.T) {
	const most = 3
	for name, tc := range map[string]struct {
		limit string
		ask   func(s *stage, i int) request // until it is refused
		other func(s *stage) request        // which is not
	}{
		"login, per email and address": {"login",
			func(*stage, int) request { return auth("login", fields{"email": jane, "password": better}) },
			func(*stage) request {
				return from("198.51.100.1", auth("login", fields{"email": jane, "password": good}))
			}},
		"login, other email": {"login",
			func(*stage, int) request { return auth("login", fields{"email": jane, "password": better}) },
			func(*stage) request { return auth("login", fields{"email": unknown, "password": good}) }},
		"login failures, per address": {"loginFailures",
			func(_ *stage, i int) request {
				return auth("login", fields{"email": fmt.Sprint(i, jane), "password": better})
			},
			func(*stage) request {
				return from("198.51.100.1", auth("login", fields{"email": jane, "password": good}))
			}},
		"login failures, per network": {"loginFailures",
			func(_ *stage, i int) request {
				return from(fmt.Sprintf("2001:db8:0:1::%d", i), auth("login", fields{
					"email":    fmt.Sprint(i, jane),
					"password": better,
				}))
			},
			func(*stage) request {
				return from("2001:db8:0:2::1", auth("login", fields{"email": jane, "password": good}))
			}},
		"register, per address": {"register",
			func(_ *stage, i int) request {
				return auth("register", fields{"email": fmt.Sprint(i, jane), "password": good})
			},
			func(*stage) request {
				return from("198.51.100.1", auth("register", fields{"email": unknown, "password": good}))
			}},
		"verify, per email": {"verify",
			func(_ *stage, i int) request {
				return from(fmt.Sprintf("198.51.100.%d", i), auth("verify-email", fields{
					"email": unverified,
					"code":  "000000",
				}))
			},
			func(*stage) request { return auth("verify-email", fields{"email": jane, "code": "000000"}) }},
		"resend, per email": {"resend",
			func(_ *stage, i int) request {
				return from(fmt.Sprintf("198.51.100.%d", i), auth("resend-code", fields{"email": unverified}))
			},
			func(*stage) request { return auth("resend-code", fields{"email": jane}) }},
		"forgot, per email": {"forgot",
			func(_ *stage, i int) request {
				return from(fmt.Sprintf("198.51.100.%d", i), auth("forgot-password", fields{"email": unverified}))
			},
			func(*stage) request { return auth("forgot-password", fields{"email": unknown}) }},
		"forgot, per address": {"api",
			func(_ *stage, i int) request { return auth("forgot-password", fields{"email": fmt.Sprint(i, jane)}) },
			func(*stage) request { return from("198.51.100.1", auth("forgot-password", fields{"email": jane})) }},
		"reset, per address": {"reset",
			func(*stage, int) request { return auth("reset-password", fields{"token": "x", "password": good}) },
			func(s *stage) request {
				return from("198.51.100.1", auth("reset-password", fields{"token": s.reset, "password": better}))
			}},
		"refresh, per address": {"refresh",
			func(*stage, int) request { return auth("refresh", fields{"refreshToken": "x"}) },
			func(s *stage) request {
				return from("198.51.100.1", auth("refresh", fields{"refreshToken": s.tk.RefreshToken}))
			}},
		"current password, as login": {"login",
			func(s *stage, _ int) request {
				return request{
					path:   "/api/auth/change-password",
					bearer: s.tk.AccessToken,
					body:   fields{"currentPassword": "x", "newPassword": better},
				}
			},
			func(s *stage) request { return silent["me"](s) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.acme.Auth.Limits[tc.limit] = tenantconfig.Limit{Requests: most, Window: time.Hour}
			ask := func(i int) request {
				q := tc.ask(s, i)
				q.from = orElse(q.from, "203.0.113.9") // from where the stage has asked for nothing
				return q
			}
			for i := range most {
				if answer := s.do(t, ask(i)); answer.Status == http.StatusTooManyRequests {
					t.Fatalf("the limit is %d, and try %d is refused", most, i+1)
				}
			}
			answer := s.do(t, ask(most))
			answer.want(t, "beyond the limit", http.StatusTooManyRequests, "rate_limited")
			if header := answer.Header; header.Get("Retry-After") == "" ||
				!strings.Contains(header.Get("RateLimit-Policy"), `"`+tc.limit+`";q=3;w=3600`) ||
				header.Get("RateLimit") == "" {
				t.Errorf("headers %v", header)
			}
			if answer := s.do(t, tc.other(s)); answer.Status == http.StatusTooManyRequests {
				t.Errorf("another key is refused: %s", answer.Body)
			}
		})
	}
}

func from(address string, q request) request {
	q.from = address
	return q
}

// TestBlockedCostsNoDatabase verifies that a key that is known to be over its limit is refused without the database.
func TestBlockedCostsNoDatabase(t *testing.T) {
	stage := newStage(t)
	stage.acme.Auth.Limits["loginFailures"] = tenantconfig.Limit{Requests: 1, Window: time.Hour}
	wrong := auth("login", fields{"email": unknown, "password": better})
	for _, wrong.pod = range stage.pods { // each learns of it
		stage.do(t, wrong)
		stage.do(t, wrong).want(t, "over the limit", 429, "rate_limited")
	}
	stage.db.Stop(t)
	defer stage.db.Start(t)
	for _, wrong.pod = range stage.pods {
		stage.do(t, wrong).want(t, "over the limit, without the database", 429, "rate_limited")
	}
}

// TestEndedOnTheOtherPod verifies that the end of a session in the database soon ends its access on each pod.
func TestEndedOnTheOtherPod(t *testing.T) {
	stage := newStage(t)
	if _, err := stage.db.Operator.RevokeUser(t.Context(), acme, stage.tk.User.ID, nil, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	for _, p := range stage.pods {
		soon.Holds(t, "access ends", func() bool {
			request := silent["me"](stage)
			request.pod = p
			return stage.do(t, request).Status == 401
		})
	}
}
