package nodestore

// Roots are where the parts of a node's container storage are.
type Roots struct {
	GraphRoot   string
	RunRoot     string   // what does not outlive a reboot
	ImageStores []string // graph roots of additional image stores
}
