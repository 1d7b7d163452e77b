package account_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
)

// TestUnknownEmailsAreHashedToo holds the hasher's only slot. Every login needs it, so accounts of every kind and
// unknown emails get the same answer. A login that hashes nothing for an unknown email would be answered, and sooner.
func TestUnknownEmailsAreHashedToo(t *testing.T) {
	rig := newCast(t)
	held := password.NewHasher(password.Options{
		Params: password.Params{Memory: 1024, Time: 6000, Threads: 1}, // a few seconds for each hash
		Slots:  1,
		Queue:  1,
		Wait:   time.Millisecond,
	})
	rig.addPod(t, func(o *account.Options) { o.Hasher = held })
	quick := password.NewHasher(password.Options{Params: password.Params{Memory: 64, Time: 1, Threads: 1}})
	cheap, err := quick.Hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	go func() {
		defer close(released)
		_, _ = held.Hash(t.Context(), good)
	}()
	defer func() { <-released }()
	soon.Holds(t, "the slot is taken", func() bool {
		_, _, err := held.Verify(t.Context(), good, cheap)
		return errors.Is(err, password.ErrBusy)
	})
	var first seen
	for i, email := range []string{verified, unknown, unverified, disabled, invited} {
		login := request{path: "/api/auth/login", body: fields{"email": email, "password": better}, pod: rig.pods[2]}
		got := rig.do(t, login).seen()
		if i == 0 {
			first = got
		}
		if d := cmp.Diff(first, got); d != "" || got.Status != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d and otherwise than %s (-%[3]s +%[1]s):\n%[4]s", email, got.Status, verified, d)
		}
	}
	select {
	case <-released:
		t.Fatal("the slot was free before the last login: the answers show nothing")
	default:
	}
}

// TestWhyALoginFails checks the audit log, which has the reason that no answer has.
func TestWhyALoginFails(t *testing.T) {
	rig := newCast(t)
	for email, tc := range map[string]struct {
		password, want string
	}{
		unknown:    {good, "no such account"},
		verified:   {better, "wrong password"},
		disabled:   {good, "the account is disabled"},
		unverified: {good, "the email is not verified"},
		invited:    {good, "wrong password"}, // it has none yet
	} {
		rig.post(t, "login", fields{"email": email, "password": tc.password}).must(t, http.StatusUnauthorized)
		got := rig.text(t, `SELECT string_agg(reason, ', ') FROM audit_log WHERE action = $1 AND subject = $2`,
			store.ActionLogin, email)
		if got != tc.want {
			t.Errorf("the audit log says of %s: %q, want %q", email, got, tc.want)
		}
	}
}
