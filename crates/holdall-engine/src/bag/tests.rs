use super::*;

#[test]
fn names_of_services_become_names_of_variables() {
    assert_eq!(env_name("document-download"), "DOCUMENT_DOWNLOAD");
    assert_eq!(env_name("2fa.é"), "_2FA__");
}
