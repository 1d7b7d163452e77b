package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/exotel/exoteltest"
)

func newSimulateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "simulate", Short: "Stand in for Exotel, to try an installation", Args: cli.NoArgs, RunE: help}
	cmd.AddCommand(newSimulateServerCommand(), newSimulateCallCommand(), newSimulateVerifyCommand())
	return cmd
}

func newSimulateServerCommand() *cobra.Command {
	var listen, keyFile, tokenFile string
	cmd := &cobra.Command{Use: "server", Short: "Serve recordings as Exotel does, until ended", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := readLine(keyFile)
			if err != nil {
				return err
			}
			token, err := readLine(tokenFile)
			if err != nil {
				return err
			}
			s, err := exoteltest.NewServer(exoteltest.Options{Listen: listen, Key: key, Token: token})
			if err != nil {
				return err
			}
			defer s.Close()
			cmd.Printf("serving recordings at %s/exotelrecordings/{account}/{call}.mp3?size={bytes}\n", s.URL())
			<-cmd.Context().Done()
			return nil
		}}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8090", "address")
	cmd.Flags().StringVar(&keyFile, "api-key-file", "", "file with the API key that is asked for; none without")
	cmd.Flags().StringVar(&tokenFile, "api-token-file", "", "file with the API token")
	return cmd
}

// readLine reads a small secret from a file; no file, no secret.
func readLine(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// ledgerEntry is what the simulator knows of a call, for a later comparison.
type ledgerEntry struct {
	CallSID   string `json:"callSID"`
	SourceURL string `json:"sourceURL"`
	Path      string `json:"path"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	Status    int    `json:"status"`
	Attempts  int    `json:"attempts"`
}

type callOptions struct {
	tenant, webhookURL, secretFile, account, recordings, spelling, output string
	calls, concurrency                                                    int
	size                                                                  int64
	wait                                                                  time.Duration
}

func newSimulateCallCommand() *cobra.Command {
	var o callOptions
	cmd := &cobra.Command{Use: "call", Short: "Place calls: send the webhooks that Exotel would", Args: cli.NoArgs,
		Long: "Sends an answered and a terminal StatusCallback for each call, signed and repeated as Exotel does.\n" +
			"With --tenant the address and the signing secret are read from the cluster of the current kubeconfig.",
		RunE: func(cmd *cobra.Command, _ []string) error { return placeCalls(cmd, o) }}
	f := cmd.Flags()
	f.StringVar(&o.tenant, "tenant", "", "namespace/name of a Tenant to read address and secret of")
	f.StringVar(&o.webhookURL, "webhook-url", "", "address of the status webhook")
	f.StringVar(&o.secretFile, "secret-file", "", "file with the signing secret")
	f.StringVar(&o.account, "account-sid", "simulated", "Exotel account in the recordings' URLs")
	f.StringVar(&o.recordings, "recordings-base-url", "", "where the recordings are served; without it the calls have none")
	f.StringVar(&o.spelling, "spelling", "mixed", "mixed, multipart, form, json or query")
	f.StringVar(&o.output, "output", "", "file to write a ledger of the calls to, for simulate verify")
	f.IntVar(&o.calls, "calls", 1, "how many calls")
	f.IntVar(&o.concurrency, "concurrency", 4, "how many at once")
	f.Int64Var(&o.size, "size", 64<<10, "bytes of the smallest recording; each is a little larger than the one before")
	f.DurationVar(&o.wait, "retry-interval", 2*time.Second, "wait before a second attempt; Exotel's own is 5m")
	return cmd
}

func (o callOptions) check() error {
	if o.calls < 0 || o.size < 0 {
		return errors.New("--calls and --size cannot be negative")
	}
	_, err := spellingOf(o.spelling, 0)
	return err
}

func placeCalls(cmd *cobra.Command, o callOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	url, secret, err := target(cmd.Context(), o)
	if err != nil {
		return err
	}
	entries := make([]ledgerEntry, o.calls)
	var done atomic.Int64
	group, ctx := errgroup.WithContext(cmd.Context())
	group.SetLimit(max(1, o.concurrency))
	for i := range entries {
		group.Go(func() error {
			var err error
			entries[i], err = placeCall(ctx, o, exoteltest.Sender{Secret: secret, Wait: o.wait}, url, i)
			if err != nil {
				return fmt.Errorf("call %s: %w", entries[i].CallSID, err)
			}
			done.Add(1)
			return nil
		})
	}
	err = group.Wait()
	cmd.Printf("%d of %d calls were accepted by %s\n", done.Load(), o.calls, url)
	if err != nil {
		return err
	}
	return writeLedger(o.output, entries)
}

func target(ctx context.Context, o callOptions) (url, secret string, err error) {
	if o.tenant != "" {
		return lookUpTenant(ctx, o.tenant)
	}
	if o.webhookURL == "" || o.secretFile == "" {
		return "", "", errors.New("nowhere to send to: give --tenant, or --webhook-url and --secret-file")
	}
	secret, err = readLine(o.secretFile)
	return o.webhookURL, secret, err
}

func placeCall(ctx context.Context, o callOptions, sender exoteltest.Sender, url string, i int) (ledgerEntry, error) {
	how, err := spellingOf(o.spelling, i)
	if err != nil {
		return ledgerEntry{}, err
	}
	sid := make([]byte, 16)
	_, _ = rand.Read(sid) // never fails
	e := ledgerEntry{CallSID: hex.EncodeToString(sid), Size: o.size + int64(i)*1021}
	now := time.Now()
	call := exoteltest.Call{SID: e.CallSID, From: "09876543210", To: "09123456789", Started: now.Add(-time.Minute), Ended: now}
	if o.recordings != "" {
		e.SourceURL = exoteltest.RecordingURL(o.recordings, o.account, e.CallSID, e.Size)
		e.Path = fmt.Sprintf("/exotelrecordings/%s/%s.mp3", o.account, e.CallSID)
		e.SHA256 = exoteltest.SHA256(e.Path, e.Size)
		call.RecordingURL = e.SourceURL
	}
	if _, _, err := sender.Send(ctx, url, call.Answered(), how); err != nil {
		return e, fmt.Errorf("answered event: %w", err)
	}
	e.Status, e.Attempts, err = sender.Send(ctx, url, call.Terminal(), how)
	return e, err
}

func spellingOf(name string, i int) (exoteltest.Spelling, error) {
	if name == "mixed" {
		return exoteltest.Spellings[i%len(exoteltest.Spellings)], nil
	}
	for _, s := range exoteltest.Spellings {
		if string(s) == name {
			return s, nil
		}
	}
	return "", fmt.Errorf("--spelling %q is none of mixed, multipart, form, json, query", name)
}

func writeLedger(file string, entries []ledgerEntry) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
