package v1alpha1

// Labels of the objects that the operator makes, with their values.
const (
	// LabelComponent names what an object is for: one of the Component constants.
	LabelComponent = "app.kubernetes.io/component"
	// ComponentTenantConfig is a Secret that data-plane pods watch.
	ComponentTenantConfig = "tenant-config"
	// ComponentTenantConfigList is the Secret that lists the published tenant configs.
	ComponentTenantConfigList = "tenant-config-list"
	// ComponentUploadConfig is a Secret that a tenant's upload pods mount.
	ComponentUploadConfig = "upload-config"
	// ComponentUpload is an upload Job, and its pods.
	ComponentUpload = "upload"
	// ComponentKeyring is the Secret with the keys of access tokens.
	ComponentKeyring = "keyring"

	// LabelName has the value Product on pods.
	LabelName = "app.kubernetes.io/name"
	// LabelManagedBy has the value Product on every object that the operator makes.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// Product is the value of LabelName and LabelManagedBy.
	Product = "caly"
)

// WebhookPathPrefix is the path below which a tenant's webhooks are: namespace, name and event follow.
const WebhookPathPrefix = "/webhooks/exotel/"
