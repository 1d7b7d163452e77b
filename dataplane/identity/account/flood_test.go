package account_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/internal/password"
)

// TestLoginsOfOneAddress verifies that an address cannot use more than its share of the hasher. Logins over the share
// are refused before they reach the database, and other addresses can sign in.
func TestLoginsOfOneAddress(t *testing.T) {
	stage := newStage(t)
	hasher := password.NewHasher(password.Options{
		Params: password.Params{Memory: 64, Time: 1, Threads: 1},
		Slots:  1,
		Queue:  7,
		Wait:   30 * time.Second,
	})
	stage.addPod(t, func(o *account.Options) { o.Hasher = hasher })
	slow := password.NewHasher(password.Options{Slots: 1})
	stored, err := slow.Hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	stage.db.Exec(t, `UPDATE users SET password_hash = '`+stored+`' WHERE email = '`+jane+`'`)
	wrong := auth("login", fields{"email": jane, "password": better})
	wrong.pod = stage.pods[2]
	// One request at a time hashes jane's password, which takes long; this many of an address use up its share.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range 8 {
		request := wrong
		if i > 0 {
			request = auth("login", fields{"email": fmt.Sprintf("nobody%d@acme.example", i), "password": better})
			request.pod = wrong.pod
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				stage.do(t, request)
			}
		})
	}
	soon.Holds(t, "the address has its share", func() bool {
		before := stage.text(t, `SELECT count(*) FROM rate_limits`)
		other := auth("login", fields{"email": unknown, "password": better})
		other.pod = stage.pods[2]
		answer := stage.do(t, other)
		return answer.Status == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "" &&
			stage.text(t, `SELECT count(*) FROM rate_limits`) == before
	})
	request := from("198.51.100.1", auth("login", fields{"email": jane, "password": good}))
	request.pod = stage.pods[2]
	stage.do(t, request).want(t, "from elsewhere", http.StatusOK, "")
}
