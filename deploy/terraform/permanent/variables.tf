variable "region" {
  description = "Region of all resources."
  type        = string
}

variable "environment" {
  description = "Name of the environment, such as dev or prod."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.environment))
    error_message = "The environment must be 2 to 10 lower-case letters and digits, starting with a letter: names of AWS have 32 characters."
  }
}

variable "alert_emails" {
  description = "Addresses that receive alerts by e-mail. Each must confirm once."
  type        = set(string)

  validation {
    condition     = length(var.alert_emails) > 0
    error_message = "At least one address must receive alerts."
  }
}

variable "cooler_after_days" {
  description = "Days after which objects move to STANDARD_IA, and three times that to GLACIER_IR."
  type        = number
  default     = 60

  validation {
    condition     = var.cooler_after_days >= 30
    error_message = "S3 moves no object to STANDARD_IA before it is 30 days old."
  }
}

variable "copy_region" {
  description = "Another region to copy the buckets to, as they are written; null: none. It cannot be taken back, and doubles their cost."
  type        = string
  default     = null

  validation {
    condition     = var.copy_region != var.region
    error_message = "The copy must be in another region."
  }
}
