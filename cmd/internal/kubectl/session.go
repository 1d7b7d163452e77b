package kubectl

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/buildinfo"
)

// requestTimeout bounds one request by default.
const requestTimeout = time.Minute

// Session has what the commands share: the flags, and what they lead to.
type Session struct {
	// Version is that of this program.
	Version buildinfo.Info

	kubeconfig, context, cluster, user string
	namespace, operatorNamespace       string
	as, asUID                          string
	asGroups                           []string
	timeout                            time.Duration
	// dialer replaces the port-forward in tests.
	dialer client.Dialer
}

// addTo adds the flags that every command has.
func (s *Session) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "path of the kubeconfig (or KUBECONFIG)")
	flags.StringVar(&s.context, "context", "", "context of the kubeconfig")
	flags.StringVar(&s.cluster, "cluster", "", "cluster of the kubeconfig")
	flags.StringVar(&s.user, "user", "", "user of the kubeconfig")
	flags.StringVarP(&s.namespace, "namespace", "n", "", "namespace of the Tenants (default: that of the context)")
	flags.StringVar(&s.operatorNamespace, "operator-namespace", adminapi.DefaultNamespace,
		"namespace of Caly's installation")
	flags.StringVar(&s.as, "as", "", "user to impersonate, such as system:serviceaccount:acme:robot")
	flags.StringSliceVar(&s.asGroups, "as-group", nil, "groups to impersonate")
	flags.StringVar(&s.asUID, "as-uid", "", "UID to impersonate")
	flags.DurationVar(&s.timeout, "request-timeout", requestTimeout, "longest time of one request; 0s: unlimited")
}

// loader returns the kubeconfig with the flags' changes.
func (s *Session) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: s.context}
	overrides.Context.Cluster = s.cluster
	overrides.Context.AuthInfo = s.user
	overrides.Context.Namespace = s.namespace
	overrides.AuthInfo.Impersonate = s.as
	overrides.AuthInfo.ImpersonateGroups = s.asGroups
	overrides.AuthInfo.ImpersonateUID = s.asUID
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// Config returns the configuration of a client of the API server, with the impersonation that the flags ask for.
func (s *Session) Config() (*rest.Config, error) {
	config, err := s.loader().ClientConfig()
	if err != nil {
		return nil, explainConfig(err)
	}
	config.UserAgent = "kubectl-caly/" + s.Version.Version
	config.Timeout = s.timeout
	return config, nil
}

// Client returns a client of the operator's admin API. close ends its port-forward.
func (s *Session) Client() (c *client.Client, close func(), err error) {
	config, err := s.Config()
	if err != nil {
		return nil, nil, err
	}
	dialer := s.dialer
	closeTunnel := func() {}
	if dialer == nil {
		pods, err := client.NewPods(config, s.operatorNamespace)
		if err != nil {
			return nil, nil, err
		}
		dialer = pods
		closeTunnel = pods.Close
	}
	if c, err = client.New(config, dialer); err != nil {
		return nil, nil, err
	}
	return c, func() { c.Close(); closeTunnel() }, nil
}

// Namespace returns the namespace of --namespace or of the context.
func (s *Session) Namespace() (string, error) {
	namespace, _, err := s.loader().Namespace()
	if err != nil {
		return "", explainConfig(err)
	}
	return namespace, nil
}

// explainConfig says what is wrong with the kubeconfig.
func explainConfig(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return errors.New("no kubeconfig: set KUBECONFIG, or --kubeconfig to its path")
	}
	return fmt.Errorf("read the kubeconfig: %w", err)
}

// scope is which Tenants a command is about.
type scope struct {
	session *Session
	all     bool
	tenant  string
	output  string
}

// addTo adds the flags of a command that prints objects of Tenants.
func (f *scope) addTo(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(
		&f.all, "all-namespaces", "A", false, "all namespaces; this needs the right for the whole cluster",
	)
	cmd.Flags().StringVarP(&f.tenant, "tenant", "t", "", "name of a Tenant, or its namespace/name")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table, wide, json, yaml or name")
}

// resolve returns the namespace, which is empty for all of them, and the name of the Tenant, which is empty for all.
func (f *scope) resolve() (namespace, tenant string, err error) {
	if err := checkOutput(f.output); err != nil {
		return "", "", err
	}
	namespace, tenant = "", f.tenant
	if head, name, ok := strings.Cut(f.tenant, "/"); ok {
		if head == "" || name == "" || strings.Contains(name, "/") {
			return "", "", cli.UsageError(nil, fmt.Errorf("--tenant %q is not a name or namespace/name", f.tenant))
		}
		namespace, tenant = head, name
	}
	switch {
	case f.all && (namespace != "" || f.session.namespace != ""):
		return "", "", cli.UsageError(nil, errors.New("give --all-namespaces or a namespace, not both"))
	case namespace != "" && f.session.namespace != "" && f.session.namespace != namespace:
		return "", "", cli.UsageError(
			nil, fmt.Errorf("--namespace %q is not that of --tenant %q", f.session.namespace, f.tenant),
		)
	case f.all || namespace != "":
		return namespace, tenant, nil
	}
	namespace, err = f.session.Namespace()
	return namespace, tenant, err
}

// query returns the parameter of the Tenant.
func query(tenant string) url.Values {
	values := url.Values{}
	if tenant != "" {
		values.Set("tenant", tenant)
	}
	return values
}
