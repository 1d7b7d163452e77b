package calytest

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const (
	// TenantID is the tenant of NewDataPlane.
	TenantID = "acme/support"
	// SigningSecret signs its webhooks.
	SigningSecret = "a signing secret of acme"
	// StatusPath takes its webhooks.
	StatusPath = "/webhooks/exotel/" + TenantID + "/status"
	// AudioToken is the secret in the URL of its streams.
	AudioToken = "token-of-the-audio-streams"
	// AudioPath takes its streams.
	AudioPath = "/audio/exotel/" + TenantID + "/" + AudioToken
)

// Kubeconfig writes a file with which a program reaches the test's API server.
func Kubeconfig(t testing.TB) string {
	t.Helper()
	env := kubetest.Get(t).Config
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{
		Server:                   "https://" + strings.TrimPrefix(env.Host, "https://"),
		CertificateAuthorityData: env.CAData,
	}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{
		ClientCertificateData: env.CertData,
		ClientKeyData:         env.KeyData,
		Token:                 env.BearerToken,
	}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// WriteConfig writes a tenant config to the work namespace, as the operator does.
func WriteConfig(t testing.TB, ns string, tenant tenantconfig.Tenant) {
	t.Helper()
	data, err := tenantconfig.EncodeTenant(tenant)
	if err != nil {
		t.Fatal(err)
	}
	kube := kubetest.Get(t).Client
	name := tenantconfig.SecretName(tenantconfig.PrefixTenant, tenant.ID)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Type:       v1alpha1.SecretTypeTenantConfig,
		Data:       map[string][]byte{tenantconfig.Key: data},
	}
	if err = kube.Create(t.Context(), secret); err != nil {
		base := &corev1.Secret{ObjectMeta: secret.ObjectMeta}
		err = kube.Patch(t.Context(), secret, client.MergeFrom(base))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ListConfigs writes the list of tenant configs, as the operator does.
func ListConfigs(t testing.TB, ns string, tenants ...string) {
	t.Helper()
	names := map[string]struct{}{}
	for _, id := range tenants {
		names[tenantconfig.SecretName(tenantconfig.PrefixTenant, id)] = struct{}{}
	}
	list := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: tenantconfig.ListSecretName},
		Type:       v1alpha1.SecretTypeTenantConfigList,
		Data:       map[string][]byte{tenantconfig.ListKey: tenantconfig.EncodeList(names)},
	}
	if err := kubetest.Get(t).Client.Create(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// WriteKeyring writes a keyring, as the operator does. Data planes sign and check access tokens with it.
func WriteKeyring(t testing.TB, ns string) {
	t.Helper()
	data, err := keyring.Encode(keyring.New(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: keyring.SecretName},
		Type:       v1alpha1.SecretTypeKeyring,
		Data:       map[string][]byte{keyring.DataKey: data},
	}
	if err := kubetest.Get(t).Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

// DataPlane is how a data plane is started, any number of times.
type DataPlane struct {
	T testing.TB
	// Namespace is the work namespace.
	Namespace string
	// Public and Internal are the addresses of its two listeners.
	Public, Internal string
	// Env and Args are those of the process.
	Env, Args []string
}

// NewDataPlane is a data plane that knows the tenant TenantID, and further ones that may be given.
func NewDataPlane(t testing.TB, pg *pgtest.Server, further ...tenantconfig.Tenant) *DataPlane {
	t.Helper()
	ns := kubetest.Get(t).NewNamespace(t)
	signature := &tenantconfig.Signature{
		Scheme:  tenantconfig.SchemeHMACSHA1,
		Secrets: []secret.Sensitive{SigningSecret},
	}
	tenant := tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 TenantID,
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Freshness:          tenantconfig.DefaultFreshness,
		Webhooks:           &tenantconfig.Webhooks{Signature: signature},
	}
	for _, tenant := range append(further, tenant) {
		WriteConfig(t, ns, tenant)
	}
	ListConfigs(t, ns)
	dataPlane := &DataPlane{T: t, Namespace: ns, Public: FreeAddress(t), Internal: FreeAddress(t)}
	dataPlane.Env = []string{"KUBECONFIG=" + Kubeconfig(t), "CALY_DATABASE_URL=" + pg.DataplaneDSN}
	dataPlane.Args = []string{
		"dataplane",
		"--work-namespace=" + ns,
		"--listen=" + dataPlane.Public,
		"--internal-listen=" + dataPlane.Internal,
		"--drain-delay=1s",
		"--grace=20s",
	}
	return dataPlane
}

// Start starts a process and does not wait for it.
func (d *DataPlane) Start() *Process {
	d.T.Helper()
	return Start(d.T, d.Env, d.Args...)
}

// Run starts a process and waits until it is ready.
func (d *DataPlane) Run() *Process {
	d.T.Helper()
	process := d.Start()
	d.AwaitReady()
	return process
}

// Ready reports whether a process is ready.
func (d *DataPlane) Ready() bool {
	code, _ := Fetch("http://" + d.Internal + "/readyz")
	return code == http.StatusOK
}

// AwaitReady waits until a process is ready.
func (d *DataPlane) AwaitReady() {
	d.T.Helper()
	eventually.Holds(d.T, "the data plane is ready", d.Ready)
}

// Metric is the value of the metric that has this name and these labels, as the process reports it; -1 without one.
func (d *DataPlane) Metric(name string) float64 {
	_, body := Fetch("http://" + d.Internal + "/metrics")
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil {
				return value
			}
		}
	}
	return -1
}

// Change changes the tenant config of TenantID.
func (d *DataPlane) Change(change func(*tenantconfig.Tenant)) {
	d.T.Helper()
	kube := kubetest.Get(d.T).Client
	name := tenantconfig.SecretName(tenantconfig.PrefixTenant, TenantID)
	var secret corev1.Secret
	if err := kube.Get(d.T.Context(), client.ObjectKey{Namespace: d.Namespace, Name: name}, &secret); err != nil {
		d.T.Fatal(err)
	}
	tenant, err := tenantconfig.DecodeTenant(secret.Data[tenantconfig.Key])
	if err != nil {
		d.T.Fatal(err)
	}
	change(tenant)
	if secret.Data[tenantconfig.Key], err = tenantconfig.EncodeTenant(*tenant); err != nil {
		d.T.Fatal(err)
	}
	if err := kube.Update(d.T.Context(), &secret); err != nil {
		d.T.Fatal(err)
	}
}

// WithAudio lets the tenant have streams, at most maxStreams at once, which go to an agent.
func (d *DataPlane) WithAudio(agentURL string, maxStreams int) {
	d.T.Helper()
	d.Change(func(tenant *tenantconfig.Tenant) {
		token := &tenantconfig.Token{Secrets: []secret.Sensitive{AudioToken}}
		tenant.Audio = &tenantconfig.Audio{
			AgentURL:   agentURL,
			Protocol:   "exotel",
			MaxStreams: maxStreams,
			Verifiers:  &tenantconfig.Webhooks{Token: token},
		}
	})
}
