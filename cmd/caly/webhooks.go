package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/controllers/tenant"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/suspension"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// newWebhooksCommand returns the command "caly webhooks".
func newWebhooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhooks",
		Short: "Find out why webhooks are rejected",
		Args:  cli.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(newWebhooksExplainCommand())
	return cmd
}

// Exit codes of "caly webhooks explain". Wrong flags end with cli.ExitUsage, as for every command.
const (
	exitRejected   = 1
	exitUnreadable = 2
)

// maxCaptured bounds a captured request, in bytes: the largest body that a data plane can be told to accept, and its
// header.
const maxCaptured = 17 << 20

type explainOptions struct {
	tenant, at, remote string
	files, proxies     []string
	http               bool
}

func newWebhooksExplainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Explain what a Tenant's verifiers say of a captured webhook",
		Long: "Reads one HTTP/1.1 request from standard input, as it arrived, and asks each verifier of the Tenant, as the " +
			"data plane does.\nPrints why a verifier rejects the request, and what the sender must change. Prints no secret.\n" +
			"The Tenant and its Secrets are read from the cluster of the current kubeconfig, or from files.\n\n" +
			"Exit codes: 0 accepted; 1 rejected; 2 the request or the Tenant cannot be read; 64 wrong flags.",
		Example: "  caly webhooks explain --tenant acme/support < request.http\n" +
			"  caly webhooks explain --tenant acme/support --at 2026-01-31T10:00:00Z --remote-address 203.0.113.7 < request.http\n" +
			"  caly webhooks explain --tenant acme/support --filename tenant.yaml --filename secrets.yaml < request.http",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explainWebhook(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.tenant, "tenant", "", "namespace/name")
	flags.StringSliceVarP(&o.files, "filename", "f", nil,
		"file with the Tenant or its Secrets in YAML, in place of the cluster; may be repeated")
	flags.StringVar(&o.at, "at", "", "when the request arrived, such as 2026-01-31T10:00:00Z (default: now)")
	flags.StringVar(
		&o.remote, "remote-address", "", "address of the peer that the request came from: the sender or a proxy",
	)
	flags.StringSliceVar(
		&o.proxies, "trusted-proxies", nil, "as the data plane's: ranges whose X-Forwarded headers are believed",
	)
	flags.BoolVar(
		&o.http, "http", false, "the request came over http and not https; a trusted X-Forwarded-Proto comes first",
	)
	return cmd
}

// explainWebhook prints what the verifiers say, and returns an error unless the request is accepted.
func explainWebhook(cmd *cobra.Command, o explainOptions) error {
	if _, _, err := splitTenant(o.tenant); err != nil {
		return cli.UsageError(cmd, err)
	}
	arrived, err := o.arrival()
	if err != nil {
		return cli.UsageError(cmd, err)
	}
	request, err := arrived.read(cmd.InOrStdin(), o.tenant)
	if err != nil {
		return &cli.ExitError{Code: exitUnreadable, Err: err}
	}
	t, verifiers, err := o.compile(cmd.Context())
	if err != nil {
		return &cli.ExitError{Code: exitUnreadable, Err: err}
	}
	verdict := verify.Verify(verifiers, request)
	printFindings(cmd, t.ID(), verifiers, verify.Explain(verifiers, request))
	switch {
	case !verdict.OK:
		cmd.Printf("result: rejected, 401, reason %s\n", verdict.Reason)
		return &cli.ExitError{Code: exitRejected, Err: fmt.Errorf("the webhook is rejected: %s", verdict.Reason)}
	case suspension.Known(t):
		cmd.Println("result: rejected, 403: the Tenant is suspended")
		return &cli.ExitError{Code: exitRejected, Err: errors.New("the webhook is rejected: the Tenant is suspended")}
	}
	cmd.Println("result: accepted")
	return nil
}

// compile returns the Tenant and its verifiers, from files or from the cluster.
func (o explainOptions) compile(ctx context.Context) (*v1alpha1.Tenant, *tenantconfig.Webhooks, error) {
	read := readTenant
	if len(o.files) > 0 {
		read = tenantFiles(o.files).read
	}
	reader, t, err := read(ctx, o.tenant)
	if err != nil {
		return nil, nil, err
	}
	verifiers, err := tenant.Webhooks(ctx, reader, t)
	return t, verifiers, err
}

// arrival is how a captured request arrived.
type arrival struct {
	at      time.Time
	remote  string
	proxies []netip.Prefix
	http    bool
}

// arrival reads the flags that say how the request arrived.
func (o explainOptions) arrival() (a arrival, err error) {
	a = arrival{at: time.Now(), http: o.http}
	if o.at != "" {
		if a.at, err = time.Parse(time.RFC3339, o.at); err != nil {
			return a, errors.New("--at is not a time such as 2026-01-31T10:00:00Z")
		}
	}
	if o.remote != "" {
		addr, err := netip.ParseAddr(o.remote)
		if err != nil {
			return a, errors.New("--remote-address is not an address such as 203.0.113.7")
		}
		a.remote = netip.AddrPortFrom(addr, 1).String()
	}
	a.proxies, err = cli.ParseCIDRs("trusted-proxies", o.proxies)
	return a, err
}

// read reads the captured request. Its errors quote nothing of it, since a path, a query and a header may hold secrets.
func (a arrival) read(in io.Reader, tenantID string) (*verify.Request, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxCaptured+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > maxCaptured {
		return nil, fmt.Errorf("standard input is larger than %d bytes", maxCaptured)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
	if err != nil {
		return nil, errors.New("standard input is not an HTTP/1.1 request: it begins with a line such as " +
			"POST /webhooks/exotel/acme/support/status HTTP/1.1, then the headers, an empty line and the body")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, errors.New(
			"the body does not have the length that Content-Length names: capture the request again, byte for byte",
		)
	}
	to, ok := webhook.AddressOf(r)
	switch {
	case !ok:
		return nil, errors.New("the path or the method is not that of a webhook; the data plane answers 404 or 405")
	case to.TenantID != "" && to.TenantID != tenantID:
		return nil, errors.New(
			"the path names another Tenant than --tenant: the data plane asks the verifiers of that one",
		)
	}
	r.RemoteAddr = a.remote
	if !a.http {
		r.TLS = &tls.ConnectionState{}
	}
	return verify.NewRequest(r, body, to.Token, a.proxies, a.at), nil
}
