//! What the proxy tells about itself over HTTP.
