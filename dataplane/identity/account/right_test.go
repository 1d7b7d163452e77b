package account_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestRightTriesDoNotCount checks that right passwords, codes and tokens do not use up the limits of wrong ones.
func TestRightTriesDoNotCount(t *testing.T) {
	login := func(pw string) request { return auth("login", fields{"email": jane, "password": pw}) }
	t.Run("logins", func(t *testing.T) {
		t.Parallel()
		rig := newLimitedRig(t, nil)
		rig.verified(t, jane)
		for range 20 { // three times the limit
			rig.do(t, login(good)).must(t, http.StatusOK)
		}
		for i := range 6 {
			rig.do(t, login(better)).must(t, http.StatusUnauthorized)
			if i < 5 {
				rig.do(t, login(good)).must(t, http.StatusOK)
			}
		}
		rig.do(t, login(better)).must(t, http.StatusTooManyRequests)
		rig.do(t, login(good)).must(t, http.StatusTooManyRequests)
		rig.do(t, from("2001:db8::1", login(good))).must(t, http.StatusOK)
	})
	t.Run("logins of one user are requests", func(t *testing.T) {
		t.Parallel()
		rig := newLimitedRig(t, map[string]tenantconfig.Limit{"api": {Requests: 10, Window: time.Hour}})
		rig.verified(t, jane)
		for i := range 12 {
			want := http.StatusOK
			if i >= 10 {
				want = http.StatusTooManyRequests
			}
			rig.do(t, from(fmt.Sprintf("198.51.100.%d", i), login(good))).must(t, want)
		}
	})
	t.Run("codes", func(t *testing.T) {
		t.Parallel()
		rig := newLimitedRig(t, nil)
		address := func(i int) string { return fmt.Sprintf("198.51.%d.%d", 100+i/200, i%200) }
		for i := range 110 { // more than tenantVerify
			rig.verified(t, fmt.Sprintf("new%d@acme.example", i), address(i))
		}
		for i := range 100 {
			wrong := auth("verify-email", fields{"email": fmt.Sprintf("wrong%d@acme.example", i), "code": "000000"})
			rig.do(t, from(address(i), wrong)).must(t, http.StatusBadRequest)
		}
		for i := range 3 { // beyond it a network may be right as often as it likes, and wrong once
			rig.verified(t, fmt.Sprintf("late%d@acme.example", i), "203.0.113.7")
		}
		wrong := auth("verify-email", fields{"email": "wrong@acme.example", "code": "000000"})
		rig.do(t, from("203.0.113.7", wrong)).must(t, http.StatusBadRequest)
		rig.do(t, from("203.0.113.7", wrong)).must(t, http.StatusTooManyRequests)
	})
	t.Run("tokens that set a password", func(t *testing.T) {
		t.Parallel()
		rig := newLimitedRig(t, map[string]tenantconfig.Limit{"reset": {Requests: 2, Window: time.Hour}})
		for i := range 4 {
			email := fmt.Sprintf("reset%d@acme.example", i)
			rig.verified(t, email, fmt.Sprintf("198.51.100.%d", i))
			rig.do(t, auth("forgot-password", fields{"email": email})).must(t, http.StatusAccepted)
			token := rig.mail(t, email, mail.ResetPassword).Data.Code.Reveal()
			rig.do(t, auth("reset-password", fields{"token": token, "password": better})).must(t, http.StatusNoContent)
		}
	})
}

// verified registers an email and verifies it, from an address.
func (r *rig) verified(t *testing.T, email string, address ...string) {
	t.Helper()
	at := "192.0.2.1"
	if len(address) > 0 {
		at = address[0]
	}
	r.do(t, from(at, auth("register", fields{"email": email, "password": good}))).must(t, http.StatusAccepted)
	code := r.mail(t, email, mail.VerifyEmail).Data.Code.Reveal()
	r.do(t, from(at, auth("verify-email", fields{"email": email, "code": code}))).must(t, http.StatusOK)
}
