package outbox

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
)

// TestMain is also the pod that a test kills: see TestKilled.
func TestMain(m *testing.M) {
	if dsn := os.Getenv("OUTBOX_TEST_DSN"); dsn != "" {
		if err := podToKill(dsn, os.Getenv("OUTBOX_TEST_SMTP"), os.Getenv("OUTBOX_TEST_CA")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func podToKill(dsn, address, ca string) error {
	db, err := store.OpenDataplane(context.Background(), dsn, store.Options{})
	if err != nil {
		return err
	}
	sender, err := mail.NewSender(mail.Options{Address: address, CAFile: ca, From: from})
	if err != nil {
		return err
	}
	return New(Options{
		Store:   db,
		Sender:  sender,
		Key:     testKey,
		Tenants: known(acme),
		Owner:   "killed",
		Poll:    poll,
		Lease:   shortLease,
	}).Run(context.Background())
}
