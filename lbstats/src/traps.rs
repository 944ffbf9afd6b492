//! The notifications of EXCELIANCE-MIB and their objects, as object identifiers.

/// `alTrap`: its objects are [`AL_TRAP_ID`], [`AL_TRAP_MSG`] and [`AL_TRAP_NAME`].
pub static AL_TRAP: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 3, 1002];
/// `eNotificationMsg`, a notification without objects.
pub static E_NOTIFICATION_MSG: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 3, 1001];
/// The instance of `alTrapId`: what happened, as an INTEGER.
pub static AL_TRAP_ID: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 2, 1, 0];
/// The instance of `alTrapMsg`: what happened, in words.
pub static AL_TRAP_MSG: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 2, 2, 0];
/// The instance of `alTrapName`: to what it happened.
pub static AL_TRAP_NAME: &[u32] = &[1, 3, 6, 1, 4, 1, 23263, 2, 3, 0];

#[cfg(test)]
mod tests {
    use super::*;

    /// Parents of the module's text: exceliance 23263, eTrapsObjects 2, eTraps 3.
    #[test]
    fn identifiers_are_those_of_the_module() {
        let mib = crate::mib::exceliance();
        let place = |definition: &str| {
            let text = mib.split(&format!("\n{definition}\n")).nth(1).unwrap_or_else(|| panic!("{definition}"));
            text.split("::= { ").nth(1).unwrap().split(" }").next().unwrap().to_owned()
        };
        assert_eq!(place("alTrap NOTIFICATION-TYPE"), format!("eTraps {}", AL_TRAP[8]));
        assert_eq!(place("eNotificationMsg NOTIFICATION-TYPE"), format!("eTraps {}", E_NOTIFICATION_MSG[8]));
        for (name, oid) in [("alTrapId", AL_TRAP_ID), ("alTrapMsg", AL_TRAP_MSG), ("alTrapName", AL_TRAP_NAME)] {
            assert_eq!(place(&format!("{name} OBJECT-TYPE")), format!("eTrapsObjects {}", oid[8]));
            assert_eq!(oid[9..], [0]);
        }
        for parent in ["exceliance 2 }", "exceliance 3 }"] {
            assert!(mib.contains(parent));
        }
    }
}
