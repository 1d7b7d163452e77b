package account_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// newLimitedRig is a rig whose tenants have the built-in limits, but for those that are given.
func newLimitedRig(t *testing.T, limits map[string]tenantconfig.Limit) *rig {
	t.Helper()
	r := newRig(t, func(o *account.Options) {
		o.Limiter = ratelimit.New(ratelimit.Options{
			Store:    o.Store,
			Key:      func() []byte { return o.Ring().Derive("rate-limit") },
			Patience: 30 * time.Second, // a slow machine must not decide
			Log:      o.Log,
		})
	})
	r.acme.Auth.Limits = limits
	return r
}

// TestGuessesAcrossAddresses checks that an attacker with 60 emails and 60 addresses makes no more tries of codes than
// the tenant's limit, and one from each address beyond it. A limit for each email alone let 300 through.
func TestGuessesAcrossAddresses(t *testing.T) {
	rig := newLimitedRig(t, nil)
	address := func(i int) string { return fmt.Sprintf("198.51.100.%d", i) }
	judged := 0
	for i := range 60 {
		email := fmt.Sprintf("guess%d@acme.example", i)
		rig.do(t, from(address(i), auth("register", fields{
			"email":    email,
			"password": good,
		}))).must(t, http.StatusAccepted)
		for range 5 {
			answer := rig.do(t, from(address(i), auth("verify-email", fields{"email": email, "code": "000000"})))
			switch answer.Status {
			case http.StatusBadRequest:
				judged++
			case http.StatusTooManyRequests:
				if answer.Header.Get("Retry-After") == "" {
					t.Fatalf("a refusal without a time to come back: %s", answer.Body)
				}
			default:
				t.Fatalf("status %d: %s", answer.Status, answer.Body)
			}
		}
	}
	if judged != 100+40 { // 20 addresses used up the limit, and had no try beyond it
		t.Errorf("%d codes were judged, want 140", judged)
	}
	// A person whose network has made no try verifies the email all the same.
	rig.do(t, from("203.0.113.7", auth("register", fields{
		"email":    jane,
		"password": good,
	}))).must(t, http.StatusAccepted)
	code := rig.mail(t, jane, mail.VerifyEmail).Data.Code.Reveal()
	rig.do(t, from("203.0.113.7", auth("verify-email", fields{"email": jane, "code": code}))).must(t, http.StatusOK)
	if got := rig.text(t, `SELECT count(*) || ' ' || min(outcome) || ' ' || min(reason) FROM audit_log
		WHERE action = 'verify_email' AND subject = ''`); got != "1 failure tenantVerify: 100 in 1h0m0s are used up" {
		t.Errorf("the audit log has %q, want one row", got)
	}
}

// TestRegistrationsOfATenant checks the limit of registrations that come from many addresses.
func TestRegistrationsOfATenant(t *testing.T) {
	rig := newLimitedRig(t, map[string]tenantconfig.Limit{"tenantRegister": {Requests: 10, Window: time.Hour}})
	accepted := 0
	for i := range 30 {
		for n := range 2 {
			email := fmt.Sprintf("new%d-%d@acme.example", i, n)
			request := auth("register", fields{"email": email, "password": good})
			if rig.do(t, from(fmt.Sprintf("198.51.100.%d", i), request)).Status == http.StatusAccepted {
				accepted++
			}
		}
	}
	if accepted != 10+25 { // five addresses used up the limit
		t.Errorf("%d registrations were accepted, want 35", accepted)
	}
	other := auth("register", fields{"email": jane, "password": good})
	other.tenant = globex
	rig.do(t, other).must(t, http.StatusAccepted)
}

// TestMailToAStranger checks that an attacker with many addresses cannot fill a stranger's mailbox through
// registration.
func TestMailToAStranger(t *testing.T) {
	rig := newLimitedRig(t, map[string]tenantconfig.Limit{"resend": {Requests: 1000, Window: time.Minute}})
	for i := range 25 {
		address := fmt.Sprintf("198.51.100.%d", i)
		rig.do(t, from(address, auth("register", fields{"email": jane, "password": good})))
		rig.do(t, from(address, auth("resend-code", fields{"email": jane})))
	}
	if n := len(rig.mails(t, jane)); n != 10 {
		t.Errorf("the stranger gets %d mails, want 10", n)
	}
}

// TestNetworkOfAddresses checks that a network of IPv6 addresses makes four times the tries of one address, and no
// more.
func TestNetworkOfAddresses(t *testing.T) {
	const addresses = 512 // of 65,536
	for name, tc := range map[string]struct {
		path string
		body func(i int) fields
		code int
		want int
	}{
		"registrations": {
			path: "register",
			body: func(i int) fields { return fields{"email": fmt.Sprintf("n%d@acme.example", i), "password": good} },
			code: http.StatusAccepted,
			want: 4 * 5,
		},
		"passwords for one email": {
			path: "login",
			body: func(int) fields { return fields{"email": jane, "password": better} },
			code: http.StatusUnauthorized,
			want: 4 * 6,
		},
		"passwords for any email": {
			path: "login",
			body: func(i int) fields { return fields{"email": fmt.Sprintf("n%d@acme.example", i), "password": better} },
			code: http.StatusUnauthorized,
			want: 4 * 100,
		},
		"tokens that set a password": {
			path: "reset-password",
			body: func(int) fields { return fields{"token": strings.Repeat("x", 43), "password": better} },
			code: http.StatusBadRequest,
			want: 4 * 20,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := newLimitedRig(t, nil)
			through := 0
			for i := range addresses {
				if rig.do(t, from(fmt.Sprintf("2001:db8:1:%x::1", i), auth(tc.path, tc.body(i)))).Status == tc.code {
					through++
				}
			}
			if through != tc.want {
				t.Errorf(
					"%d tries from %d addresses of one network were let through, want %d", through, addresses, tc.want,
				)
			}
			other := rig.do(t, from("2001:db8:2::1", auth(tc.path, tc.body(0))))
			if other.Status != tc.code {
				t.Errorf("from another network: %d %s", other.Status, other.Body)
			}
		})
	}
}
