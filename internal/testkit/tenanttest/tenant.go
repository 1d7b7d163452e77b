// Package tenanttest makes Tenants for tests.
package tenanttest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// Names of the Secrets that a Tenant of New refers to.
const (
	ExotelSecret  = "exotel"
	WebhookSecret = "webhook"
	BucketSecret  = "bucket"
)

// New is a Tenant that the API server accepts, with the changes of a test. It is not created, and neither are its
// Secrets.
func New(namespace, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.TenantSpec{
			Exotel: v1alpha1.ExotelSpec{
				AccountSID:           "acme1",
				CredentialsSecretRef: v1alpha1.SecretReference{Name: ExotelSecret},
			},
			Webhooks: v1alpha1.WebhooksSpec{
				Signature: &v1alpha1.SignatureSpec{SecretRef: v1alpha1.SecretReference{Name: WebhookSecret}},
			},
			Recordings: v1alpha1.RecordingsSpec{
				Bucket:               "acme-recordings",
				Endpoint:             "https://s3.example.com",
				Region:               "us-east-1",
				CredentialsSecretRef: &v1alpha1.SecretReference{Name: BucketSecret},
			},
		},
	}
	for _, f := range change {
		f(tenant)
	}
	return tenant
}

// Storage returns the compiled storage of a tenant with a bucket of a server.
func Storage(s *s3test.Server, bucket string) *tenantconfig.Storage {
	return &tenantconfig.Storage{
		Bucket:          bucket,
		Endpoint:        s.Endpoint,
		Region:          s.Region,
		AccessKeyID:     secret.Sensitive(s.AccessKey),
		SecretAccessKey: secret.Sensitive(s.SecretKey),
	}
}
