// Package admintest gives tests an admin API with a real API server and a real database: the users, tokens and rights of a
// test, Tenants with recordings, and clients that connect without a port-forward.
package admintest

import (
	"context"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/adminapi/server"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// Rig is an admin API for one test. Call controllertest.Main from the package's TestMain.
type Rig struct {
	*controllertest.Rig
	address string
}

// Version is what the operator of a Rig says of itself.
var Version = buildinfo.Info{Version: "v1.2.3", Go: "go1"}

// New starts an admin API, which ends with the test. A change completes the options of the server.
func New(t testing.TB, change ...func(*Rig, *server.Options)) *Rig {
	t.Helper()
	r := &Rig{Rig: controllertest.New(t)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(log.IntoContext(context.Background(), r.Logger()))
	ended := make(chan error, 1)
	options := server.Options{
		Client:  r.Client,
		Reader:  r.Client,
		Store:   r.DB,
		Version: Version,
	}
	for _, f := range change {
		f(r, &options)
	}
	api := server.New(options)
	go func() { ended <- api.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return r
}

// DialContext connects to the admin API as a port-forward would.
func (r *Rig) DialContext(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", r.address)
}

// As returns a client of the admin API with credentials.
func (r *Rig) As(t testing.TB, config *rest.Config) *client.Client {
	t.Helper()
	c, err := client.New(config, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// NewTenant makes a Tenant in a namespace whose rows are its own.
func (r *Rig) NewTenant(t testing.TB, namespace, name string) string {
	t.Helper()
	tenant := tenanttest.New(namespace, name)
	r.Create(t, tenant)
	r.claim(t, tenant)
	return tenant.ID()
}

func (r *Rig) claim(t testing.TB, tenant *v1alpha1.Tenant) {
	t.Helper()
	owner, err := r.DB.ClaimTenant(t.Context(), tenant.ID(), string(tenant.UID), true)
	if err != nil || owner != string(tenant.UID) {
		t.Fatalf("the rows of %s belong to %q, %v", tenant.ID(), owner, err)
	}
}

// Failed makes a recording whose upload was given up, and returns its id.
func (r *Rig) Failed(t testing.TB, tenant, call, code string) string {
	t.Helper()
	id := r.Enqueue(t, tenant, call, "https://recordings.exotel.com/"+call+".mp3?signature=topsecret")
	pods := r.UploadPods(t, tenant)
	claimed, err := pods.Claim(t.Context(), "pod", 100, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, lease := range claimed {
		if err := pods.Fail(t.Context(), "pod", lease.ID, code, "it failed"); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// Stream makes a live stream session of a call, and returns its id.
func (r *Rig) Stream(t testing.TB, tenant, call string) string {
	t.Helper()
	id := store.NewID()
	row := store.NewStream{ID: id, CallSID: call, Pod: "pod-1", Agent: "bot.example"}
	if err := r.dataplane(t).AdmitStream(t.Context(), tenant, row, 100); err != nil {
		t.Fatal(err)
	}
	return id
}

// DeadEvent makes an event of a call that was older than its Tenant allows when it came, and returns its id.
func (r *Rig) DeadEvent(t testing.TB, tenant, call string) int64 {
	t.Helper()
	body := "CallSid=" + call + "&EventType=terminal&Status=completed&From=%2B919900000001&token=topsecret"
	event := store.Event{
		Tenant:      tenant,
		Kind:        "status",
		CallSID:     call,
		EventType:   "terminal",
		DedupKey:    sha256.Sum256([]byte(tenant + body)),
		Source:      "webhook",
		ContentType: "application/x-www-form-urlencoded",
		Raw:         []byte(body),
		CoversBody:  true,
		DeadReason:  reason.DeadStale,
	}
	if outcome, err := r.dataplane(t).Ingest(t.Context(), event); err != nil || outcome != store.Dead {
		t.Fatalf("kept as %v, %v; want a dead event", outcome, err)
	}
	return int64(r.PG.Number(t, "SELECT max(id) FROM call_events WHERE tenant = $1", tenant))
}

func (r *Rig) dataplane(t testing.TB) *store.Dataplane {
	t.Helper()
	return storetest.Open(t, r.PG.DataplaneDSN, store.OpenDataplane)
}

// Grant binds what one of the aggregated roles of the chart may do, in a namespace. A role has the rights of those
// before it.
func (r *Rig) Grant(t testing.TB, namespace, role string, subject rbacv1.Subject) {
	t.Helper()
	roles := userRoles(t)
	var rules []rbacv1.PolicyRule
	for _, name := range []string{"view", "edit", "admin"} {
		rules = append(rules, roles[name]...)
		if name == role {
			break
		}
	}
	meta := metav1.ObjectMeta{Namespace: namespace, GenerateName: "caly-"}
	made := &rbacv1.Role{ObjectMeta: meta, Rules: rules}
	r.Create(t, made)
	r.Create(t, &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: made.Name},
		Subjects:   []rbacv1.Subject{subject},
	})
}

// userRoles reads the rights of the chart's aggregated roles.
func userRoles(t testing.TB) map[string][]rbacv1.PolicyRule {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(kubetest.Root(), "charts/caly/files/user-roles.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string][]rbacv1.PolicyRule{}
	if err := yaml.UnmarshalStrict(data, &roles); err != nil || len(roles) != 3 {
		t.Fatalf("%d roles, %v", len(roles), err)
	}
	return roles
}

// Named is a user or a group.
func Named(kind, name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
}

// Token returns a token of a ServiceAccount of the namespace, for the API server or the audiences.
func (r *Rig) Token(t testing.TB, namespace, name string, audiences ...string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if !r.Find(t, namespace, name, account) {
		r.Create(t, account)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         audiences,
		ExpirationSeconds: ptr.To[int64](600),
	}}
	if err := r.Client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	r.Hide(request.Status.Token)
	return request.Status.Token
}

// WithToken is a configuration with a token alone.
func WithToken(token string) *rest.Config {
	return &rest.Config{Host: "https://unused", BearerToken: token}
}

// WithCertificate is a configuration with a client certificate alone.
func WithCertificate(cert, key string) *rest.Config {
	return &rest.Config{
		Host: "https://unused",
		TLSClientConfig: rest.TLSClientConfig{
			CertData: []byte(cert),
			KeyData:  []byte(key),
		},
	}
}

// Kubeconfig writes a configuration as a kubeconfig whose context has a namespace, and returns its path.
func Kubeconfig(t testing.TB, config *rest.Config, namespace string) string {
	t.Helper()
	file := clientcmdapi.NewConfig()
	file.CurrentContext = "test"
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test", Namespace: namespace}
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["test"] = &clientcmdapi.AuthInfo{
		Token:                 config.BearerToken,
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}
