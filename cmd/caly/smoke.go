package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/bounded"
)

const (
	// smokeBody bounds what is read of an answer.
	smokeBody = 4 << 20
	// smokeRequest bounds one request.
	smokeRequest = 5 * time.Second
	// smokePause is the time between two rounds.
	smokePause = 2 * time.Second
)

// smokeTest is what the chart's test Pod checks: it asks a running installation from inside of the cluster.
type smokeTest struct {
	service                     string
	dataplanePods, operatorPods string
	operatorMetrics             string
	within                      time.Duration
	client                      *http.Client
	resolve                     func(ctx context.Context, host string) ([]string, error)
}

func newSmokeCommand() *cobra.Command {
	s := &smokeTest{
		client:  newSmokeClient(),
		resolve: net.DefaultResolver.LookupHost,
	}
	cmd := &cobra.Command{
		Use:   "smoke",
		Short: "Check that an installation answers; helm test runs it",
		Long: `Checks an installation from inside of the cluster. It repeats failed checks until --within has passed.

  - every pod of the data plane and of the operator is ready
  - one pod of the operator leads
  - the Service of the data plane serves the public keys of access tokens
  - a webhook without a signature is refused with 401 through the Service`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.service == "" || s.dataplanePods == "" || s.operatorPods == "" || s.operatorMetrics == "" {
				return usage("--service, --dataplane-pods, --operator-pods and --operator-metrics are needed")
			}
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.service, "service", "", "base URL of the data plane's Service")
	flags.StringVar(
		&s.dataplanePods, "dataplane-pods", "", "host:port of the probes; the host has an address for each pod",
	)
	flags.StringVar(&s.operatorPods, "operator-pods", "", "host:port of the probes of the operator's pods")
	flags.StringVar(&s.operatorMetrics, "operator-metrics", "", "host:port of the metrics of the operator's pods")
	flags.DurationVar(&s.within, "within", time.Minute, "how long failed checks are repeated")
	return cmd
}

// newSmokeClient returns a client that follows no redirect and uses no proxy. Every request has a connection of its own, so
// that it may reach another pod.
func newSmokeClient() *http.Client {
	return &http.Client{
		Timeout:       smokeRequest,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			//nolint:gosec // the certificate is for the public name, and the test sends no secret
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
	}
}

// smokeCheck is one check; it returns what it saw.
type smokeCheck struct {
	name string
	try  func(context.Context) (string, error)
}

// run makes every check, and repeats those that fail.
func (s *smokeTest) run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	left := []smokeCheck{
		{
			"pods of the data plane are ready",
			func(ctx context.Context) (string, error) { return s.ready(ctx, s.dataplanePods) },
		},
		{
			"pods of the operator are ready",
			func(ctx context.Context) (string, error) { return s.ready(ctx, s.operatorPods) },
		},
		{"one pod of the operator leads", s.leads},
		{"the Service serves the keys of access tokens", s.keys},
		{"a webhook without a signature is refused", s.refusal},
	}
	for {
		var failed []smokeCheck
		var causes []string
		for _, check := range left {
			saw, err := check.try(ctx)
			if err != nil {
				failed = append(failed, check)
				causes = append(causes, fmt.Sprintf("%s: %s", check.name, bounded.Text(err.Error(), 300)))
				continue
			}
			_, _ = fmt.Fprintf(out, "ok: %s: %s\n", check.name, saw)
		}
		if left = failed; len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d checks failed: %s", len(left), strings.Join(causes, "; "))
		case <-time.After(smokePause):
		}
	}
}

// ready asks every pod behind a name.
func (s *smokeTest) ready(ctx context.Context, pods string) (string, error) {
	addresses, err := s.addresses(ctx, pods)
	for _, address := range addresses {
		if _, err := s.get(ctx, "http://"+address+"/readyz", http.StatusOK); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d", len(addresses)), err
}

// leads counts the leaders among the operator's pods.
func (s *smokeTest) leads(ctx context.Context) (string, error) {
	addresses, err := s.addresses(ctx, s.operatorMetrics)
	if err != nil {
		return "", err
	}
	var leaders []string
	for _, address := range addresses {
		metrics, err := s.get(ctx, "http://"+address+"/metrics", http.StatusOK)
		if err != nil {
			return "", err
		}
		if strings.Contains(metrics, `leader_election_master_status{name="caly-operator"} 1`) {
			leaders = append(leaders, address)
		}
	}
	if len(leaders) != 1 {
		return "", fmt.Errorf("%d of %d pods of the operator lead", len(leaders), len(addresses))
	}
	return leaders[0], nil
}

// keys asks for the public keys. The answer proves that a pod has read them from PostgreSQL.
func (s *smokeTest) keys(ctx context.Context) (string, error) {
	body, err := s.get(ctx, s.service+"/.well-known/jwks.json", http.StatusOK)
	if err == nil && !strings.Contains(body, `"keys"`) {
		err = errors.New("the answer has no keys")
	}
	return s.service, err
}

// refusal sends a webhook that nothing proves.
func (s *smokeTest) refusal(ctx context.Context) (string, error) {
	target := s.service + webhook.PathPrefix + "caly-smoke/no-such-tenant/status"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader("CallSid=smoke"))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if _, err := s.do(request, http.StatusUnauthorized); err != nil {
		return "", err
	}
	return "401", nil
}

// addresses returns a host:port for each address of the host.
func (s *smokeTest) addresses(ctx context.Context, hostPort string) ([]string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	found, err := s.resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("no pod is ready, or the name cannot be resolved: %w", err)
	}
	for i := range found {
		found[i] = net.JoinHostPort(found[i], port)
	}
	return found, nil
}

func (s *smokeTest) get(ctx context.Context, target string, want int) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return "", err
	}
	return s.do(request, want)
}

// do sends a request and wants a status.
func (s *smokeTest) do(request *http.Request, want int) (string, error) {
	response, err := s.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, smokeBody))
	if err != nil {
		return "", fmt.Errorf("%s: %w", request.URL, err)
	}
	if response.StatusCode != want {
		return "", fmt.Errorf(
			"%s answers %d, want %d: %s", request.URL, response.StatusCode, want, bounded.Text(string(body), 200),
		)
	}
	return string(body), nil
}
